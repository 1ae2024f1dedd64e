#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes models.safetensors: configs/models/gpt.yaml and lenet.yaml at toy sizes, in PyTorch: weights under our names,
inputs, and what forward and backward give. Needs: pip install torch safetensors"""
import pathlib
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file

here = pathlib.Path(__file__).parent
sys.path.insert(0, str(here.parent / "parity"))
import models  # noqa: E402

torch.manual_seed(11)
out = {}


def gpt(*arguments):
    """Nothing is left at 0 or 1."""
    net = models.Gpt(*arguments)
    for parameter in net.parameters():
        nn.init.normal_(parameter, parameter.mean().item(), 0.3)
    return net


class Lenet(nn.Module):
    def __init__(self, channels, width, classes, side):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.conv2, self.norm2 = nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.BatchNorm2d(2 * channels)
        self.fc1 = nn.Linear(2 * channels * (side // 4) ** 2, width)
        self.fc2 = nn.Linear(width, classes)
        for norm in (self.norm1, self.norm2):
            nn.init.normal_(norm.weight, 1, 0.3)
            nn.init.normal_(norm.bias, 0, 0.3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.norm2(self.conv2(x))), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def record(name, model, x, targets):
    def state(kind, items):
        for key, value in items:
            if not key.endswith("num_batches_tracked"):
                out[f"{name}.{kind}.{key}"] = value.detach().clone()

    out[f"{name}.x"], out[f"{name}.targets"] = x, targets
    state("before", model.state_dict().items())
    logits = model(x)
    loss = F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))
    loss.backward()
    out[f"{name}.logits"], out[f"{name}.loss"] = logits.detach().contiguous(), loss.detach()
    state("grad", ((key, value.grad) for key, value in model.named_parameters()))
    state("after", model.named_buffers())
    model.eval()
    out[f"{name}.eval_logits"] = model(x).detach().contiguous()


for name, bias in (("gpt", False), ("gpt_bias", True)):
    record(name, gpt(11, 8, 8, 2, 2, bias), torch.randint(0, 11, (3, 6)), torch.randint(0, 11, (3, 6)))
record("lenet", Lenet(4, 8, 5, 8), torch.randn(6, 1, 8, 8), torch.randint(0, 5, (6,)))
save_file(out, here / "models.safetensors", metadata={"format": "pt"})
