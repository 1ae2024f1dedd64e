#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the benchmarks' data into a folder: make_data.py FOLDER.

64 images of noise [3, 224, 224] with labels as IDX files, and a text of 50,257 different characters in random order, so
that as characters it has GPT-2's vocabulary. Files that are there stay.
that as characters it has GPT-2's vocabulary; one of 10,000 for the benchmark lstm.
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


def gpt2_text():
    noise = random.Random(3)
    text = CODE_POINTS + noise.choices(CODE_POINTS, k=200_000)
    noise.shuffle(text)
    return ["".join(map(chr, text)).encode()]


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    for name, pieces in (("images-idx4-ubyte", images), ("labels-idx1-ubyte", labels), ("gpt2.txt", gpt2_text)):
        write(os.path.join(folder, name), pieces)
    noise = random.Random(1)
    with open(os.path.join(folder, "images-idx4-ubyte"), "wb") as file:
        file.write(struct.pack(">BBBBIIII", 0, 0, 8, 4, 64, 3, 224, 224))
        file.write(noise.randbytes(64 * 3 * 224 * 224))
    with open(os.path.join(folder, "labels-idx1-ubyte"), "wb") as file:
        file.write(struct.pack(">BBBBI", 0, 0, 8, 1, 64))
        file.write(noise.randbytes(64))
    text = CODE_POINTS + noise.choices(CODE_POINTS, k=200_000)
    noise.shuffle(text)
    with open(os.path.join(folder, "gpt2.txt"), "w", encoding="utf-8") as file:
        file.write("".join(map(chr, text)))
    words = CODE_POINTS[:WORDS]
    text = words + noise.choices(words, k=200_000)
    noise.shuffle(text)
    with open(os.path.join(folder, "lstm.txt"), "w", encoding="utf-8") as file:
        file.write("".join(map(chr, text)))


if __name__ == "__main__":
    main()
