#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PyTorch's side of scripts/bench.sh: the same model, batch, optimizer and threads; the protocol of protocol.h."""
import argparse
import logging
import math
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

import peer_gpt2
import peer_lstm
import peer_resnet50
import peer_training
import protocol


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln_1 = nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)
        self.ln_2 = nn.LayerNorm(width, bias=False)
        self.fc = nn.Linear(width, 4 * width, bias=False)
        self.out = nn.Linear(4 * width, width, bias=False)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(self.ln_1(x)).split(c, dim=2)
        q, k, v = (u.view(b, t, self.heads, c // self.heads).transpose(1, 2) for u in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).contiguous().view(b, t, c))
        return x + self.out(F.gelu(self.fc(self.ln_2(x))))


class Gpt(nn.Module):
    def __init__(self, vocabulary=65, context=64, width=128, heads=4, layers=4):
        super().__init__()
        self.wte = nn.Embedding(vocabulary, width)
        self.wpe = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width, bias=False)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, ids):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln_f(x))


class GptRecipe(peer_training.Training):
    """nanoGPT's CPU recipe: 4 layers, 4 heads, width 128, context 64, batch 12, AdamW, clipping at 1."""

    max_norm = 1.0

    def __init__(self):
        self.model = Gpt()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1,
                                           fused=True)
        self.tokens = torch.randint(0, 65, (1_000_000,))

    def batch(self):
        return peer_training.windows(self.tokens, 12, 64)

    def loss(self, x, y):
        return F.cross_entropy(self.model(x).view(-1, 65), y.view(-1))


class MnistCnn(peer_training.Training):
    """configs/models/lenet.yaml at batch 64, AdamW as in configs/jobs/mnist-cnn.yaml."""

    def __init__(self):
        self.model = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Dropout(0.25), nn.Linear(128, 10))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)
        self.images = torch.rand(6400, 1, 28, 28)
        self.labels = torch.randint(0, 10, (6400,))

    def batch(self):
        index = torch.randint(0, 6400, (64,))
        return self.images[index], self.labels[index]

    def loss(self, x, y):
        return F.cross_entropy(self.model(x), y)


WORKLOADS = {
    "gpt-recipe": GptRecipe,
    "mnist-cnn": MnistCnn,
    "gpt2-124m": peer_gpt2.Training,
    "gpt2-124m-bf16": lambda: peer_gpt2.Training(torch.bfloat16),
    "adamw-100m": peer_training.AdamW100M,
    "lstm": peer_lstm.Training,
    "lstm-200": lambda: peer_lstm.Training(200),
    "resnet50": peer_resnet50.Training,
    "resnet50-channels-last": lambda: peer_resnet50.Training(is_channels_last=True),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=WORKLOADS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="with torch.compile")
    arguments = parser.parse_args()
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # "No CUDA runtime"
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1337)
    workload = WORKLOADS[arguments.name]()
    if arguments.compile:
        workload.compile()

    def run(n):
        times = []
        for _ in range(n):
            start = time.perf_counter()
            loss = workload.step()
            times.append(1e3 * (time.perf_counter() - start))
        assert math.isfinite(loss)
        return times

    protocol.serve(run)


if __name__ == "__main__":
    main()
