#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes small data of the kinds that configs/jobs/ read and that aren't beside the repository: make_data.py FOLDER.

cifar10/cifar-10-batches-bin/   data_batch_1.bin … 5, test_batch.bin: 40 images each
images/train, images/val   10 class folders of PNG (drawn here) and JPEG (tests/golden/images) files of several sizes
california/housing.csv  2,000 rows with the header and the columns of the real one
Pictures are stripes whose direction and colour tell the class; house values follow from the other columns: all of it
can be learnt. Same bytes on every machine.
"""
import math
import os
import random
import shutil
import struct
import sys
import zlib

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "images")
JPEGS = ["photo.jpg", "grey.jpg", "progressive.jpg", "subsampled.jpg", "cmyk.jpg", "turn-6.jpg"]
COLUMNS = ["MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude", "Longitude"]


def picture(noise, label, height, width):
    """Three planes of bytes."""
    angle = math.pi * label / 10
    dy, dx = math.sin(angle), math.cos(angle)
    planes = []
    for channel in range(3):
        strength = 60 if (label + channel) % 3 == 0 else 25
        planes.append(bytes(
            int(min(255, max(0, 128 + strength * math.sin((dy * y + dx * x) / 2) + noise.gauss(0, 8))))
            for y in range(height) for x in range(width)))
    return planes


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(planes, height, width):
    rows = b"".join(
        b"\0" + bytes(plane[y * width + x] for x in range(width) for plane in planes) for y in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def cifar(folder):
    noise = random.Random(1)
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        labels = [i % 10 for i in range(40)]
        noise.shuffle(labels)
        records = [bytes([label]) + b"".join(picture(noise, label, 32, 32)) for label in labels]
        write(os.path.join(folder, name + ".bin"), b"".join(records))


def images(folder):
    noise = random.Random(2)
    for part, n in (("train", 3), ("val", 1)):
        for label in range(10):
            place = os.path.join(folder, part, f"stripes-{label}")
            for i in range(n):
                height, width = noise.randint(40, 64), noise.randint(40, 64)
                write(os.path.join(place, f"{i}.png"), png(picture(noise, label, height, width), height, width))
            shutil.copyfile(os.path.join(GOLDEN, JPEGS[label % len(JPEGS)]), os.path.join(place, "photo.jpg"))


def housing(path):
    noise = random.Random(3)
    lines = [",".join(COLUMNS + ["MedHouseVal"])]
    for _ in range(2000):
        row = [noise.uniform(0.5, 10), noise.uniform(1, 52), noise.uniform(2, 9), noise.uniform(0.8, 1.3),
               noise.uniform(100, 3000), noise.uniform(1, 5), noise.uniform(32, 42), noise.uniform(-124, -114)]
        value = 0.4 * row[0] + 0.01 * row[1] - 0.1 * row[5] + noise.gauss(0, 0.1)
        lines.append(",".join(f"{number:.4f}" for number in row + [value]))
    write(path, ("\n".join(lines) + "\n").encode())


def main():
    folder = sys.argv[1]
    cifar(os.path.join(folder, "cifar10", "cifar-10-batches-bin"))
    images(os.path.join(folder, "images"))
    housing(os.path.join(folder, "california", "housing.csv"))


if __name__ == "__main__":
    main()
