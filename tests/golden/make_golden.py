#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes ops.safetensors: values and gradients of ops from PyTorch, computed in float64 and rounded to float32.

Usage: make_golden.py [OUTPUT]. Needs torch. tests/engine/test_golden.c has one case for each one here:
CASE/in0 … (inputs), CASE/y, CASE/dy (a random gradient of y), CASE/grad0 … (of the floating inputs).
"""
import json
import os
import struct
import sys

import torch
import torch.nn.functional as F

torch.manual_seed(20240229)
TENSORS = {}


def case(name, function, *inputs):
    """Runs function on float64 copies of inputs (None stays None) and records everything."""
    args = []
    for x in inputs:
        if x is None:
            args.append(None)
        elif x.is_floating_point():
            args.append(x.float().double().requires_grad_(True))
        else:
            args.append(x)
    y = function(*args)
    dy = torch.randn(y.shape).double()
    y.backward(dy)
    for i, (x, arg) in enumerate(zip(inputs, args)):
        if x is not None:
            TENSORS[f"{name}/in{i}"] = x
            if x.is_floating_point():
                TENSORS[f"{name}/grad{i}"] = arg.grad
    TENSORS[f"{name}/y"] = y
    TENSORS[f"{name}/dy"] = dy


def attention(n_heads, is_causal):
    def function(qkv):
        b, t, c3 = qkv.shape
        q, k, v = (x.view(b, t, n_heads, -1).transpose(1, 2) for x in qkv.split(c3 // 3, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
        return y.transpose(1, 2).reshape(b, t, c3 // 3)

    return function


def batch_norm_eval(x, weight, bias, mean, var):
    return F.batch_norm(x, mean.detach(), var.detach(), weight, bias, False) + 0 * (mean.sum() + var.sum())


def main():
    r = torch.randn
    case("linear", F.linear, r(3, 5, 24), r(17, 24), r(17))
    case("matmul_batched", torch.matmul, r(2, 3, 7, 9), r(3, 9, 5))
    case("layer_norm", lambda x, w, b: F.layer_norm(x, (40,), w, b, 1e-5), r(2, 21, 40), r(40), r(40))
    case("layer_norm_plain", lambda x: F.layer_norm(x, (7,), eps=1e-5), r(4, 7))
    case("batch_norm_training", lambda x, w, b: F.batch_norm(x, None, None, w, b, True), r(4, 3, 5, 6), r(3), r(3))
    case("batch_norm_2d", lambda x, w, b: F.batch_norm(x, None, None, w, b, True), r(19, 6), r(6), r(6))
    case("batch_norm_evaluation", batch_norm_eval, r(2, 3, 4, 5), r(3), r(3), r(3), r(3).abs() + 0.5)
    case("conv2d", lambda x, w, b: F.conv2d(x, w, b, padding=1), r(2, 3, 9, 8), r(20, 3, 3, 3), r(20))
    case("conv2d_first", F.conv2d, r(2, 1, 14, 14), r(32, 1, 5, 5), r(32))
    case("conv2d_strided", lambda x, w: F.conv2d(x, w, stride=(2, 3), padding=(2, 1), dilation=(2, 1)),
         r(2, 5, 11, 13), r(6, 5, 3, 3))
    case("conv2d_grouped", lambda x, w, b: F.conv2d(x, w, b, padding=1, groups=4), r(2, 8, 6, 7), r(12, 2, 3, 3), r(12))
    case("conv2d_depthwise", lambda x, w, b: F.conv2d(x, w, b, padding=1, groups=18), r(1, 18, 6, 7), r(18, 1, 3, 3),
         r(18))
    case("max_pool2d", lambda x: F.max_pool2d(x, 2), r(2, 3, 9, 37))
    case("max_pool2d_overlapping", lambda x: F.max_pool2d(x, 3, 2, 1), r(2, 3, 9, 8))
    case("avg_pool2d", lambda x: F.avg_pool2d(x, (2, 3), (2, 1), (1, 0)), r(2, 3, 9, 8))
    case("attention_causal", attention(2, True), r(1, 41, 3 * 2 * 32))
    case("attention_full", attention(2, False), r(2, 19, 3 * 2 * 16))
    case("attention_odd_width", attention(2, True), r(1, 50, 3 * 2 * 10))
    case("attention_one", attention(1, True), r(2, 1, 3 * 8))
    case("embedding", F.embedding, torch.randint(0, 11, (3, 9)), r(11, 70))
    targets = torch.randint(0, 65, (23,))
    case("cross_entropy", lambda x, t: F.cross_entropy(x, t, reduction="sum") * 0.25, 3 * r(23, 65), targets)
    ignoring = targets % 7
    case("cross_entropy_smoothed",
         lambda x, t: F.cross_entropy(x, t, reduction="sum", ignore_index=3, label_smoothing=0.1), r(23, 7), ignoring)
    case("mse", lambda x, y: 0.5 * ((x - y) ** 2).sum(), r(9, 70), r(9, 70))
    write(sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "ops.safetensors"))


def write(path):
    header, data = {}, b""
    for name, t in sorted(TENSORS.items()):
        is_float = t.is_floating_point()
        t = t.detach()
        raw = (t.float() if is_float else t.long()).contiguous().numpy().tobytes()
        header[name] = {"dtype": "F32" if is_float else "I64", "shape": list(t.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % 64)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
    print(f"{path}: {len(TENSORS)} tensors, {8 + len(text) + len(data)} bytes")


if __name__ == "__main__":
    main()
