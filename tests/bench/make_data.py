#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the benchmarks' data into a folder: make_data.py FOLDER.

64 images of noise [3, 224, 224] with labels as IDX files, and a text of 50,257 different characters in random order, so
that as characters it has GPT-2's vocabulary; one of 10,000 for the benchmark lstm; a text of random bytes. Files that
are there stay.
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


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    for name, pieces in (("images-idx4-ubyte", images), ("labels-idx1-ubyte", labels), ("gpt2.txt", gpt2_text),
                         ("lstm.txt", lstm_text), ("bytes.txt", byte_text)):
        write(os.path.join(folder, name), pieces)


if __name__ == "__main__":
    main()
