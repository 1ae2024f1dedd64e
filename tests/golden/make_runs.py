#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes runs/: small data, initial weights and what PyTorch's first 50 losses from them are, on the batches that gradd
takes. Needs: pip install torch safetensors; usage: make_runs.py build/release/bin/parity"""
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file

here = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(here.parent / "parity"))
import losses  # noqa: E402
import models  # noqa: E402

folder = here / "runs"
noise = random.Random(4)


def text_write():
    words = ["the", "rank", "of", "a", "step", "is", "one", "batch", "and", "gradients", "flow", "back"]
    (folder / "text").write_text(" ".join(noise.choice(words) for _ in range(700)))


def images_write(n, side):
    """Three channels; the label is where a patch is bright."""
    labels = [noise.randrange(4) for _ in range(n)]
    pixels = bytearray()
    for label in labels:
        for _ in range(3):
            for y in range(side):
                for x in range(side):
                    inside = y // (side // 2) == label // 2 and x // (side // 2) == label % 2
                    pixels.append(noise.randrange(120) + (100 if inside else 0))
    (folder / "images").write_bytes(struct.pack(">BBBBIIII", 0, 0, 8, 4, n, 3, side, side) + bytes(pixels))
    (folder / "labels").write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, n) + bytes(labels))


def gpt():
    net = models.Gpt(19, 16, 16, 2, 2, True)
    optimizer = torch.optim.AdamW(losses.matrices_decay(net, 0.1), lr=0.01, betas=(0.9, 0.99))
    return net, optimizer, lambda step: losses.warm_cosine(step, 50, 5, 0.01, 0.001), 1.0


def lstm():
    net = models.LstmLm(19, 16, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=2.0)
    return net, optimizer, lambda step: 2.0, 0.25


WEIGHT = [0.5 + 0.1 * i for i in range(19)]


def weighted(logits, targets):
    """Classes with weights, a label that is ignored, smoothing: the mean is over the weights of the whole batch."""
    return F.cross_entropy(logits.reshape(-1, 19), targets.reshape(-1).long(), weight=torch.tensor(WEIGHT),
                           ignore_index=3, label_smoothing=0.1)


def table_write():
    """A class and two values of four inputs."""
    with open(folder / "table.csv", "w") as file:
        file.write("a,b,c,d,class,u,v\n")
        for _ in range(120):
            x = [noise.gauss(0, 1) for _ in range(4)]
            row = x + [int(x[0] > 0) + 2 * int(x[1] > 0.3), 2 * x[2] + x[3], x[0] * x[1]]
            file.write(",".join(f"{value:.4g}" for value in row) + "\n")


def tasks():
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    return net, optimizer, lambda step: 0.02, 0


def several(outputs, targets):
    classes = F.cross_entropy(outputs[:, :4], targets[:, 0].long(), weight=torch.tensor([1, 2, 0.5, 1]))
    return 0.7 * classes + 0.3 * F.huber_loss(outputs[:, 4:], targets[:, 1:], delta=0.5)


def resnet18():
    net = models.ResNet(18, 4, 2)
    losses.resnet18_begin(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.003, momentum=0.9, nesterov=True, weight_decay=5e-4)
    return net, optimizer, lambda step: losses.warm_cosine(step, 50, 5, 0.003, 0), 0


folder.mkdir(exist_ok=True)
text_write()
images_write(48, 24)
table_write()
out = {}
for name, (make, loss_of) in {"gpt": (gpt, losses.cross_entropy), "resnet18": (resnet18, losses.cross_entropy),
                              "lstm": (lstm, losses.cross_entropy),
                              "weighted": (gpt, weighted), "tasks": (tasks, several)}.items():
    torch.manual_seed(2)
    net, optimizer, rate, clip = make()
    weights = folder / f"{name}.safetensors"
    save_file(net.state_dict(), weights)
    with tempfile.TemporaryDirectory() as temporary:
        temporary = pathlib.Path(temporary)
        subprocess.run([sys.argv[1], "train", folder / f"{name}.yaml", temporary, "50"], check=True)
        ours = [float(line) for line in (temporary / "losses").read_text().split()]
        theirs = losses.train(net, optimizer, rate, clip, temporary, loss_of)
    print(name, theirs[0], theirs[-1], "largest difference", max(abs(a - b) for a, b in zip(ours, theirs)))
    out[name] = torch.tensor(theirs, dtype=torch.float64)
save_file(out, folder / "losses.safetensors")
