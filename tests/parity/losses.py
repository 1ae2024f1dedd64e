#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whole runs: gradd trains the first 50 steps of a job and leaves its initial weights, its batches and its losses;
PyTorch trains the same model from the same weights on the same batches, with the optimizer, schedule and clipping that the job
says; both in float32. usage: losses.py PARITY_PROGRAM [NAME...]"""
import math
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import models

LIMIT = 1e-4
N_STEPS = 50
source = pathlib.Path(__file__).resolve().parents[2]


def matrices_decay(net, decay):
    """decay_matrices_only: vectors are spared, as in nanoGPT."""
    parameters = list(net.parameters())
    return [{"params": [p for p in parameters if p.dim() >= 2], "weight_decay": decay},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0}]


def warm_cosine(step, total, warmup, lr, final):
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    return final + 0.5 * (lr - final) * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def gpt():
    net = models.Gpt(65, 64, 128, 4, 4)
    optimizer = torch.optim.AdamW(matrices_decay(net, 0.1), lr=1e-3, betas=(0.9, 0.99))
    return net, optimizer, lambda step: warm_cosine(step, 2000, 100, 1e-3, 1e-4), 1.0


def images_write(folder, n, side, classes):
    """IDX files of three-channel images: noise, and a square whose place is the label."""
    noise = torch.Generator().manual_seed(3)
    labels = torch.randint(0, classes, (n,), generator=noise)
    pixels = torch.randint(0, 120, (n, 3, side, side), generator=noise)
    for i, label in enumerate(labels.tolist()):
        x, y = side // 4 * (label % 4), side // 4 * (label // 4)
        pixels[i, :, y:y + side // 4, x:x + side // 4] += 100
    (folder / "images").write_bytes(struct.pack(">BBBBIIII", 0, 0, 8, 4, n, 3, side, side) +
                                    pixels.to(torch.uint8).numpy().tobytes())
    (folder / "labels").write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, n) + labels.to(torch.uint8).numpy().tobytes())


def resnet18_begin(net):
    """As torchvision's resnet18(zero_init_residual=True) begins. From other weights PyTorch's own losses, too, differ
    by 0.1 after 10 steps when the weights differ by 1e-7: each activation that crosses a rectifier's kink is a step in
    the gradient."""
    for name, module in net.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif name.endswith("bn2"):
            torch.nn.init.zeros_(module.weight)


def resnet18():
    net = models.ResNet(18, 10)
    resnet18_begin(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9, weight_decay=5e-4)
    return net, optimizer, lambda step: warm_cosine(step, N_STEPS, 10, 0.001, 0), 0


def lstm_lm():
    net = models.LstmLm(65, 256, 2)
    optimizer = torch.optim.AdamW(matrices_decay(net, 0.01), lr=2e-3)
    return net, optimizer, lambda step: warm_cosine(step, 1000, 50, 2e-3, 2e-4), 1.0


CASES = {"gpt": (gpt, "configs/jobs/shakespeare-char.yaml"),
         "resnet18": (resnet18, "tests/parity/jobs/resnet18.yaml"),
         "lstm_lm": (lstm_lm, "configs/jobs/shakespeare-lstm.yaml")}


def cross_entropy(logits, targets):
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1).long())


def train(net, optimizer, rate, clip, folder, loss_of=cross_entropy):
    batches = load_file(folder / "batches.safetensors")
    losses = []
    net.train()
    for step in range(N_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        loss = loss_of(net(batches[f"x.{step}"]), batches[f"y.{step}"])
        optimizer.zero_grad()
        loss.backward()
        if clip > 0:
            torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
    return losses


def compare(name, program, folder):
    folder.mkdir(parents=True)
    make, job = CASES[name]
    torch.manual_seed(1)
    net, optimizer, rate, clip = make()
    with_weights = []
    if name == "resnet18":
        save_file(net.state_dict(), folder / "weights.safetensors")
        images_write(folder, 320, 64, 10)
        os.environ["GRADD_PARITY_DATA"] = str(folder)
        with_weights = [f"model.weights={folder}/weights.safetensors"]
    subprocess.run([program, "train", source / job, folder, str(N_STEPS), "resources.workers=1", "resources.threads=2",
                    *with_weights, *(["model.with.dropout=0"] if name == "lstm_lm" else [])], check=True, stderr=subprocess.DEVNULL)
    ours = [float(line) for line in (folder / "losses").read_text().split()]
    if not with_weights:
        net.load_state_dict(load_file(folder / "init.safetensors"))
    theirs = train(net, optimizer, rate, clip, folder)
    assert len(ours) == len(theirs) == N_STEPS, (len(ours), len(theirs))
    differences = [abs(a - b) for a, b in zip(ours, theirs)]
    checkpoint = load_file(sorted((folder / "job" / "checkpoints").glob("step-*/model.safetensors"))[-1])
    state = net.state_dict()
    parameters = max((checkpoint[key] - state[key]).abs().max().item() for key in checkpoint)
    at = differences.index(max(differences))
    print(f"{name}: loss {ours[0]:.4f} -> {ours[-1]:.4f} (PyTorch {theirs[0]:.4f} -> {theirs[-1]:.4f}); largest "
          f"difference of {N_STEPS} losses {max(differences):.2e} at step {at + 1} (limit {LIMIT:.0e}), of the parameters "
          f"and running statistics afterwards {parameters:.2e}", flush=True)
    return max(differences)


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as temporary:
        differences = {name: compare(name, program, pathlib.Path(temporary) / name)
                       for name in sys.argv[2:] or CASES}
    print("figure: " + ", ".join(f"{name} {d:.1e}" for name, d in differences.items()))
    return 0 if all(d <= LIMIT for d in differences.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
