#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes loss_edges.safetensors: PyTorch's losses for every reduction with and without weights, ignored labels and label
smoothing, also where all labels are ignored or there is nothing. Needs: pip install torch safetensors"""
import itertools
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(11)
x, weight = torch.randn(6, 4), torch.rand(4) + 0.5
targets = {"mixed": torch.tensor([0, 2, 3, 1, 2, 0]), "ignored": torch.full((6,), 2), "empty": torch.zeros(0, dtype=torch.long)}
tensors = {"x": x, "weight": weight, "pointwise.x": torch.rand(6) * 0.8 + 0.1, "pointwise.y": torch.rand(6) * 0.8 + 0.1}
tensors |= {f"targets.{name}": t for name, t in targets.items()}


def case(name, call, x):
    x = x.clone().requires_grad_(True)
    y = call(x)
    y.sum().backward()
    tensors[f"{name}.y"], tensors[f"{name}.dx"] = y.detach().clone(), x.grad.clone()


for reduction, has_weight, ignores, smooths, name in itertools.product(("mean", "sum", "none"), (0, 1), (0, 1), (0, 1), targets):
    options = dict(weight=weight if has_weight else None, ignore_index=2 if ignores else -100, reduction=reduction)
    part = x[:len(targets[name])]
    key = f"{reduction}.{has_weight}{ignores}{smooths}.{name}"
    case(f"cross_entropy.{key}", lambda x: F.cross_entropy(x, targets[name], label_smoothing=0.2 * smooths, **options), part)
    if not smooths:
        case(f"nll.{key}", lambda x: F.nll_loss(F.log_softmax(x, -1), targets[name], **options), part)
pointwise = {
    "l1": F.l1_loss, "mse": F.mse_loss, "smooth_l1": F.smooth_l1_loss, "huber": F.huber_loss, "bce": F.binary_cross_entropy,
    "bce_with_logits": F.binary_cross_entropy_with_logits, "kl_div": F.kl_div, "poisson_nll": F.poisson_nll_loss,
    "hinge_embedding": F.hinge_embedding_loss, "soft_margin": F.soft_margin_loss}
for (name, loss), reduction, n in itertools.product(pointwise.items(), ("mean", "sum", "none"), (6, 0)):
    y = tensors["pointwise.y"][:n]
    y = torch.sign(y - 0.4) if name in ("hinge_embedding", "soft_margin") else y
    case(f"{name}.{reduction}.{n}", lambda x: loss(x, y, reduction=reduction), tensors["pointwise.x"][:n])
save_file({name: t.contiguous() for name, t in tensors.items()}, pathlib.Path(__file__).with_name("loss_edges.safetensors"))
print(len(tensors))
