#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes 64 images of noise [3, 224, 224] and their labels as IDX files into a folder: make_images.py FOLDER."""
import os
import random
import struct
import sys


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


if __name__ == "__main__":
    main()
