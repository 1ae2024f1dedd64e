#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""torchvision's side of `scripts/bench.sh loader`: the folder, transforms and batch of jobs/loader.yaml through
torch.utils.data.DataLoader with N worker processes; the protocol of protocol.h. A run is an epoch of as many batches,
each given the mean time. usage: peer_loader.py FOLDER [--workers N]"""
import argparse
import time

import torch
from torch.utils.data import DataLoader, Sampler
from torchvision import datasets, transforms

import protocol

BATCH = 32


class Draws(Sampler):
    """As many samples at random as the next run takes, so that workers stand still between runs."""

    def __init__(self, count):
        self.count, self.n = count, BATCH

    def __iter__(self):
        return iter(torch.randint(0, self.count, (self.n,)).tolist())

    def __len__(self):
        return self.n


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = datasets.ImageFolder(arguments.folder, transforms.Compose([
        transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.ColorJitter(0.4, 0.4, 0.4),
        transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        transforms.RandomErasing(p=0.1)]))
    draws = Draws(len(dataset))
    loader = DataLoader(dataset, BATCH, sampler=draws, num_workers=arguments.workers,
                        persistent_workers=arguments.workers > 0)

    def run(n):
        draws.n = n * BATCH
        start = time.perf_counter()
        n_taken = sum(1 for _ in loader)
        assert n_taken == n, (n_taken, n)
        return [1e3 * (time.perf_counter() - start) / n] * n

    protocol.serve(run)


if __name__ == "__main__":
    main()
