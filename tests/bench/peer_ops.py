#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PyTorch's side of bench-ops: peer_ops.py [THREADS] [PATTERN] prints name, forward and forward + backward in us.

With a path to bench-ops as third argument, runs it too and prints both with their ratios.
"""
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

ROUND_S = 0.02


def attention(heads):
    def function(qkv):
        b, t, c3 = qkv.shape
        q, k, v = (x.view(b, t, heads, -1).transpose(1, 2) for x in qkv.split(c3 // 3, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return y.transpose(1, 2).contiguous().view(b, t, c3 // 3)

    return function


def sdpa(heads, key_heads):
    def function(q, k, v):
        b, t, c = q.shape
        q, k, v = (x.view(b, t, n, -1).transpose(1, 2) for x, n in ((q, heads), (k, key_heads), (v, key_heads)))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=key_heads < heads)
        return y.transpose(1, 2).contiguous().view(b, t, c)

    return function


def rope(heads, theta=10000.0):
    """As transformers' Llama; the table of sines and cosines is made once, beforehand."""
    def function(x):
        b, t, c = x.shape
        if t not in tables:
            rates = theta ** (-torch.arange(0, c // heads, 2) / (c // heads))
            angle = torch.arange(t)[:, None] * torch.cat((rates, rates))
            tables[t] = angle.cos()[:, None], angle.sin()[:, None]
        cosine, sine = tables[t]
        x = x.view(b, t, heads, -1)
        first, second = x.chunk(2, -1)
        return (x * cosine + torch.cat((-second, first), -1) * sine).view(b, t, c)

    tables = {}
    return function


def recurrent(kind, width):
    """The hidden part alone can't be had from PyTorch: the input has one feature."""
    def function(x, w_hh, b_hh):
        gates = w_hh.shape[0]
        zeros = torch.zeros(1, x.shape[1], width)
        weights = [torch.zeros(gates, 1), w_hh, torch.zeros(gates), b_hh]
        state = (zeros, zeros) if kind == "lstm" else zeros
        run = torch.lstm if kind == "lstm" else torch.gru
        return run(x, state, weights, True, 1, 0.0, torch.is_grad_enabled(), False, False)[0]

    return function


def cases():
    r = torch.randn
    for m, k, n in ((384, 128, 384), (384, 128, 128), (384, 128, 512), (384, 512, 128), (384, 128, 65),
                    (768, 128, 384), (768, 128, 512)):
        yield f"linear {m}x{k}x{n}", F.linear, (r(m, k), r(n, k), r(n)), 0
    for m in (384, 768):
        yield f"layer_norm {m}x128", lambda x, w, b: F.layer_norm(x, (128,), w, b), (r(m, 128), r(128), r(128)), 0
    yield "attention 6x64 4x32", attention(4), (r(6, 64, 384),), 0
    yield "attention 12x64 4x32", attention(4), (r(12, 64, 384),), 0
    yield "attention 1x1024 12x64", attention(12), (r(1, 1024, 2304),), 0
    yield "sdpa 1x1024 12x64", sdpa(12, 12), (r(1, 1024, 768), r(1, 1024, 768), r(1, 1024, 768)), 0
    yield "sdpa 2x512 32x64 of 4", sdpa(32, 4), (r(2, 512, 2048), r(2, 512, 256), r(2, 512, 256)), 0
    yield "rope 2x512 32x64", rope(32), (r(2, 512, 2048),), 0
    yield "swiglu 1024x5632", lambda a, b: F.silu(a) * b, (r(1024, 5632), r(1024, 5632)), 0
    yield "lstm 35x20 512", recurrent("lstm", 512), (r(35, 20, 1), r(2048, 512) / 20, r(2048)), 0
    yield "gru 35x20 512", recurrent("gru", 512), (r(35, 20, 1), r(1536, 512) / 20, r(1536)), 0
    yield "gelu 384x512", F.gelu, (r(384, 512),), 0
    yield "gelu_tanh 384x512", lambda x: F.gelu(x, approximate="tanh"), (r(384, 512),), 0
    yield "add 384x128", torch.add, (r(384, 128), r(384, 128)), 0
    yield "embedding 384 65x128", F.embedding, (torch.randint(0, 65, (384,)), r(65, 128)), 0
    yield "cross_entropy 384x65", F.cross_entropy, (r(384, 65), torch.randint(0, 65, (384,))), 0
    yield "cross_entropy 256x50257", F.cross_entropy, (r(256, 50257), torch.randint(0, 50257, (256,))), 0
    yield "conv2d 64x1x28 32x3", F.conv2d, (r(64, 1, 28, 28), r(32, 1, 3, 3), r(32)), 1
    yield "conv2d 64x32x26 64x3", F.conv2d, (r(64, 32, 26, 26), r(64, 32, 3, 3), r(64)), 0
    yield ("conv2d 64x32x14 64x5p2", lambda x, w, b: F.conv2d(x, w, b, padding=2),
           (r(64, 32, 14, 14), r(64, 32, 5, 5), r(64)), 0)
    yield "max_pool2d 64x64x24", lambda x: F.max_pool2d(x, 2), (r(64, 64, 24, 24),), 0
    yield ("batch_norm 64x32x14", lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
           (r(64, 32, 14, 14), r(32), r(32)), 0)


def median_us(run, clock):
    times = []
    start = clock()
    n = 0
    while n < 3 or clock() - start < ROUND_S:
        run()
        n += 1
    for _ in range(15):
        start = clock()
        n = 0
        while n < 2 or clock() - start < ROUND_S:
            run()
            n += 1
        times.append((clock() - start) / n * 1e6)
    return sorted(times)[len(times) // 2]


def main():
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    pattern = sys.argv[2] if len(sys.argv) > 2 else ""
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    for name, function, inputs, no_grad in cases():
        if pattern not in name:
            continue
        with torch.no_grad():
            forward = median_us(lambda: function(*inputs), clock)
            dy = torch.randn(function(*inputs).shape)
        for i, x in enumerate(inputs):
            x.requires_grad_(x.is_floating_point() and i >= no_grad)

        def step():
            function(*inputs).backward(dy)
            for x in inputs:
                x.grad = None

        both = median_us(step, clock)
        if len(sys.argv) > 3:
            line = subprocess.run([sys.argv[3], str(threads), name], capture_output=True, text=True, check=True).stdout
            ours = [float(x) for x in line.split()[-2:]]
            print(f"{name:26} forward {ours[0]:9.1f} / {forward:9.1f} = {ours[0] / forward:5.2f}   "
                  f"with backward {ours[1]:9.1f} / {both:9.1f} = {ours[1] / both:5.2f}", flush=True)
        else:
            print(f"{name:26} {forward:10.1f} {both:10.1f}", flush=True)


if __name__ == "__main__":
    main()
