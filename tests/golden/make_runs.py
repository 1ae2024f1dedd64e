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


def resnet18():
    net = models.ResNet(18, 4, 2)
    losses.resnet18_begin(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.003, momentum=0.9, nesterov=True, weight_decay=5e-4)
    return net, optimizer, lambda step: losses.warm_cosine(step, 50, 5, 0.003, 0), 0


folder.mkdir(exist_ok=True)
text_write()
images_write(48, 24)
out = {}
for name, make in {"gpt": gpt, "resnet18": resnet18}.items():
    torch.manual_seed(2)
    net, optimizer, rate, clip = make()
    weights = folder / f"{name}.safetensors"
    save_file(net.state_dict(), weights)
    with tempfile.TemporaryDirectory() as temporary:
        temporary = pathlib.Path(temporary)
        subprocess.run([sys.argv[1], "train", folder / f"{name}.yaml", temporary, "50"], check=True)
        ours = [float(line) for line in (temporary / "losses").read_text().split()]
        theirs = losses.train(net, optimizer, rate, clip, temporary)
    print(name, theirs[0], theirs[-1], "largest difference", max(abs(a - b) for a, b in zip(ours, theirs)))
    out[name] = torch.tensor(theirs, dtype=torch.float64)
save_file(out, folder / "losses.safetensors")
