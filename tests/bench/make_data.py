#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the benchmarks' data into a folder: make_data.py FOLDER.

64 images of noise [3, 224, 224] with labels as IDX files, and a text of 50,257 different characters in random order, so
that as characters it has GPT-2's vocabulary.
"""
import os
import random
import struct
import sys

VOCABULARY = 50257
CODE_POINTS = [c for c in range(0x100, 0x100 + VOCABULARY + 0x800) if not 0xD800 <= c < 0xE000][:VOCABULARY]


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
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


if __name__ == "__main__":
    main()
