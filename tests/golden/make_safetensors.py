#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes foreign.safetensors with the reference implementation. Needs: pip install torch safetensors"""
import pathlib

import torch
from safetensors.torch import save_file

here = pathlib.Path(__file__).parent
save_file(
    {
        "b.f32": torch.arange(6, dtype=torch.float32).reshape(2, 3) / 4,
        "a.f64": torch.tensor(-1.5, dtype=torch.float64),
        "c.bf16": torch.tensor([1.0, -2.0, 0.5], dtype=torch.bfloat16),
        "d.f16": torch.tensor([[0.25], [-8.0]], dtype=torch.float16),
        "e.i64": torch.tensor([1, -2, 2**40], dtype=torch.int64),
        "f.i32": torch.tensor([7, -9], dtype=torch.int32),
        "g.u8": torch.tensor([0, 128, 255], dtype=torch.uint8),
        "h.bool": torch.tensor([True, False]),
        "i.empty": torch.zeros(0, 5),
    },
    here / "foreign.safetensors",
    metadata={"format": "pt", "note": "hällo"},
)
