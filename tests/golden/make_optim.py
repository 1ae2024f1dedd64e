#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes optim.safetensors: 20 steps of PyTorch's optimizers on given gradients. Needs: pip install torch safetensors"""
import math
import pathlib

import torch
from safetensors.torch import save_file

STEPS = 20
torch.manual_seed(7)
here = pathlib.Path(__file__).parent


def nanogpt_lr(step, lr=0.02, final_lr=0.002, warmup=4, total=16):
    """get_lr of nanoGPT's train.py."""
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    if step > total:
        return final_lr
    ratio = (step - warmup) / (total - warmup)
    return final_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (lr - final_lr)


weight = torch.randn(3, 7)
bias = torch.randn(7)
weight_grads = torch.randn(STEPS, 3, 7)
bias_grads = torch.randn(STEPS, 7)
rates = [nanogpt_lr(step) for step in range(STEPS)]
out = {
    "weight": weight, "bias": bias, "weight_grads": weight_grads, "bias_grads": bias_grads,
    "cosine_lr": torch.tensor(rates, dtype=torch.float64),
}


def run(name, make):
    w, b = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    optimizer = make(w, b)
    for step in range(STEPS):
        w.grad, b.grad = weight_grads[step].clone(), bias_grads[step].clone()
        for group in optimizer.param_groups:
            group["lr"] = rates[step]
        optimizer.step()
    out[f"{name}.weight"], out[f"{name}.bias"] = w.detach(), b.detach()
    for key, value in optimizer.state[w].items():
        if key != "step" and value is not None:
            out[f"{name}.{key}"] = value


run("sgd", lambda w, b: torch.optim.SGD([w, b], lr=0.02))
run("sgd_decay", lambda w, b: torch.optim.SGD([w, b], lr=0.02, weight_decay=0.1))
run("momentum", lambda w, b: torch.optim.SGD([w, b], lr=0.02, momentum=0.9, weight_decay=0.1))
run("nesterov", lambda w, b: torch.optim.SGD([w, b], lr=0.02, momentum=0.9, nesterov=True, weight_decay=0.1))
run("adamw", lambda w, b: torch.optim.AdamW([w, b], lr=0.02, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1))
run("adamw_matrices", lambda w, b: torch.optim.AdamW(
    [{"params": [w]}, {"params": [b], "weight_decay": 0.0}], lr=0.02, betas=(0.9, 0.999), weight_decay=0.1))

grads = [torch.nn.Parameter(torch.zeros(3, 7)), torch.nn.Parameter(torch.zeros(7))]
grads[0].grad, grads[1].grad = weight_grads[0].clone(), bias_grads[0].clone()
out["norm"] = torch.nn.utils.clip_grad_norm_(grads, 1.0).double()
out["clipped"] = grads[0].grad
save_file(out, here / "optim.safetensors", metadata={"format": "pt"})
