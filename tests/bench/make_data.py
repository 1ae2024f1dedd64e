#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the benchmarks' data into a folder: make_data.py FOLDER.

64 images of noise [3, 224, 224] with labels as IDX files, and a text of 50,257 different characters in random order, so
that as characters it has GPT-2's vocabulary; one of 10,000 for the benchmark lstm; a text of random bytes; for the
benchmark loader 96 JPEG files of 500 x 375 where this Python has Pillow. Files that are there stay.
"""
import os
import random
import struct
import sys

VOCABULARY = 50257
WORDS = 10000
CODE_POINTS = [c for c in range(0x100, 0x100 + VOCABULARY + 0x800) if not 0xD800 <= c < 0xE000][:VOCABULARY]


def write(path, pieces):
    """Complete or not at all."""
    if not os.path.exists(path):
        with open(path + ".part", "wb") as file:
            file.writelines(pieces())
        os.replace(path + ".part", path)


def images():
    return [struct.pack(">BBBBIIII", 0, 0, 8, 4, 64, 3, 224, 224), random.Random(1).randbytes(64 * 3 * 224 * 224)]


def labels():
    return [struct.pack(">BBBBI", 0, 0, 8, 1, 64), random.Random(2).randbytes(64)]


def noise_text(seed, code_points):
    noise = random.Random(seed)
    text = code_points + noise.choices(code_points, k=200_000)
    noise.shuffle(text)
    return ["".join(map(chr, text)).encode()]


def gpt2_text():
    return noise_text(3, CODE_POINTS)


def lstm_text():
    return noise_text(4, CODE_POINTS[:WORDS])


def byte_text():
    return [random.Random(5).randbytes(1_000_000)]


def photos(folder):
    """JPEG files of waves under noise in 4 class folders, about as large as photos are."""
    try:
        import numpy as np
        from PIL import Image
    except ImportError:
        return
    noise = np.random.default_rng(6)
    y, x = np.mgrid[0:375, 0:500]
    for i in range(96):
        place = os.path.join(folder, f"class-{i % 4}")
        os.makedirs(place, exist_ok=True)
        waves = [np.sin(x / noise.uniform(5, 60) + c) * 50 + np.cos(y / noise.uniform(5, 60)) * 50 for c in range(3)]
        pixels = np.clip(np.stack(waves, -1) + 128 + noise.normal(0, 12, (375, 500, 3)), 0, 255).astype(np.uint8)
        path = os.path.join(place, f"{i}.jpg")
        if not os.path.exists(path):
            Image.fromarray(pixels).save(path, quality=80)


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    for name, pieces in (("images-idx4-ubyte", images), ("labels-idx1-ubyte", labels), ("gpt2.txt", gpt2_text),
                         ("lstm.txt", lstm_text), ("bytes.txt", byte_text)):
        write(os.path.join(folder, name), pieces)
    photos(os.path.join(folder, "photos"))


if __name__ == "__main__":
    main()
