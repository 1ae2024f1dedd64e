#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes resample.safetensors: sounds and what SciPy's resample_poly makes of them at other rates; needs SciPy.

from_<a>_to_<b>.source   f32, noise of less than 0.6 of the slower rate's band, which both filters pass unchanged
from_<a>_to_<b>.result   f32, ceil(len(source) * b / a) values
"""
import os

import numpy as np
from safetensors.numpy import save_file
from scipy import signal

HERE = os.path.dirname(os.path.abspath(__file__))
RATES = [(8000, 16000), (16000, 8000), (44100, 16000), (22050, 8000), (8000, 11025), (48000, 4000)]
LENGTH = 1500


def main():
    arrays = {}
    for i, (a, b) in enumerate(RATES):
        noise = np.random.default_rng(i).normal(0, 0.2, LENGTH)
        low = signal.firwin(401, 0.6 * min(a, b) / a, window=("kaiser", 12))
        noise[:300] = noise[-300:] = 0  # at its ends a sound rings, in each filter's way
        source = np.convolve(noise, low, mode="same").astype(np.float32)
        divisor = np.gcd(a, b)
        up, down = b // divisor, a // divisor
        widest = max(up, down)
        window = signal.firwin(2 * 64 * widest + 1, 0.95 / widest, window=("kaiser", 14))
        arrays[f"from_{a}_to_{b}.source"] = source
        result = signal.resample_poly(source.astype(np.float64), up, down, window=window)
        arrays[f"from_{a}_to_{b}.result"] = result.astype(np.float32)
    save_file(arrays, os.path.join(HERE, "resample.safetensors"))


if __name__ == "__main__":
    main()
