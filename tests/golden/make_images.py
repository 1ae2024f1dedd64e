#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes small images of every kind that is read, and what Pillow makes of them; needs Pillow, NumPy, safetensors.

images/*.png, *.jpg    grey, colour, palette, alpha, 16 bits, interlaced, CMYK, progressive, Exif orientation
images.safetensors     <file>: Pillow's convert("RGB") as u8 [3, H, W]; resize_<n>: photo.png resized, f32, 0 … 1
"""
import os

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, "images")
SIZES = [(8, 8), (17, 5), (24, 40), (48, 48), (31, 24), (3, 40)]


def picture(height, width, seed):
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / (3 + c) + c) * 60 + np.cos(y / (2 + c)) * 50 + 128 for c in range(3)]
    noise = generator.normal(0, 6, (height, width, 3))
    return np.clip(np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)


def chw(image):
    return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def main():
    os.makedirs(FOLDER, exist_ok=True)
    rgb = picture(24, 31, 1)
    image = Image.fromarray(rgb)
    grey = image.convert("L")
    alpha = image.copy()
    alpha.putalpha(grey)
    exif = Image.Exif()
    files = {
        "photo.png": (image, {}),
        "grey.png": (grey, {}),
        "alpha.png": (alpha, {}),
        "palette.png": (image.quantize(16), {}),
        "bits.png": (grey.point(lambda v: 255 * (v > 128)).convert("1"), {}),
        "photo.jpg": (image, {"quality": 90}),
        "grey.jpg": (grey, {"quality": 90}),
        "progressive.jpg": (image, {"quality": 90, "progressive": True}),
        "subsampled.jpg": (image, {"quality": 80, "subsampling": 2}),
        "cmyk.jpg": (image.convert("CMYK"), {"quality": 95}),
    }
    arrays = {}
    for name, (made, options) in files.items():
        made.save(os.path.join(FOLDER, name), **options)
        arrays[name] = chw(Image.open(os.path.join(FOLDER, name)))
    for turn in range(1, 9):
        exif[274] = turn
        name = f"turn-{turn}.jpg"
        image.save(os.path.join(FOLDER, name), quality=90, exif=exif)
        opened = Image.open(os.path.join(FOLDER, name))
        from PIL import ImageOps

        arrays[name] = chw(ImageOps.exif_transpose(opened))
    Image.fromarray((np.asarray(grey).astype(np.uint16) * 257)).save(os.path.join(FOLDER, "deep.png"))
    arrays["deep.png"] = chw(grey)
    for i, (height, width) in enumerate(SIZES):
        resized = image.resize((width, height), Image.BILINEAR)
        arrays[f"resize_{i}"] = (chw(resized) / 255).astype(np.float32)
    save_file(arrays, os.path.join(HERE, "images.safetensors"))


if __name__ == "__main__":
    main()
