#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes losses.safetensors: values and gradients of PyTorch's losses, in float64, from inputs that float32 holds.
Needs: pip install torch safetensors"""
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(11)
out = {}


def case(name, function, inputs, grads=(0,), reductions=("mean", "sum", "none")):
    """inputs: tensors; grads: which of them get gradients. Where nothing is reduced, dloss is 1, 2, 3, …"""
    inputs = [x.float() if x.is_floating_point() else x for x in inputs]
    for i, x in enumerate(inputs):
        out[f"{name}.{i}"] = x.clone()
    for reduction in reductions:
        wide = [x.double().requires_grad_(i in grads) if x.is_floating_point() else x for i, x in enumerate(inputs)]
        loss = function(*wide, reduction)
        loss.backward(torch.arange(1, loss.numel() + 1, dtype=torch.float64).reshape(loss.shape))
        out[f"{name}.{reduction}.loss"] = loss.detach().clone()
        for i in grads:
            out[f"{name}.{reduction}.grad{i}"] = wide[i].grad.clone()


def randn(*shape, scale=1.0):
    return torch.randn(*shape) * scale


def rand(*shape, lo=0.0, hi=1.0):
    return lo + (hi - lo) * torch.rand(*shape)


def signs(*shape):
    return torch.where(torch.rand(*shape) < 0.5, -1.0, 1.0)


x, y = randn(4, 6, scale=2), randn(4, 6)
case("l1", lambda x, y, r: F.l1_loss(x, y, reduction=r), [x, y], (0, 1))
case("mse", lambda x, y, r: F.mse_loss(x, y, reduction=r), [x, y], (0, 1))
case("smooth_l1", lambda x, y, r: F.smooth_l1_loss(x, y, beta=0.7, reduction=r), [x, y], (0, 1))
case("huber", lambda x, y, r: F.huber_loss(x, y, delta=1.3, reduction=r), [x, y], (0, 1))
p, t = rand(4, 6), rand(4, 6)
p[0, 0], t[0, 0], p[0, 1], t[0, 1] = 0.0, 1.0, 1.0, 0.0  # where the logarithms are clamped
case("bce", lambda x, y, r: F.binary_cross_entropy(x, y, reduction=r), [p, t])
case("bce_weight", lambda x, y, w, r: F.binary_cross_entropy(x, y, w, reduction=r), [rand(4, 6), t, rand(6, hi=3)],
     (0, 1))
wide_logits = randn(4, 6, scale=20)
case("bce_with_logits", lambda x, y, r: F.binary_cross_entropy_with_logits(x, y, reduction=r), [wide_logits, t], (0, 1))
case("bce_with_logits_weights",
     lambda x, y, w, v, r: F.binary_cross_entropy_with_logits(x, y, w, pos_weight=v, reduction=r),
     [randn(4, 6), t, rand(4, 1, hi=2), rand(6, lo=0.5, hi=3)])
logp = F.log_softmax(randn(4, 6), -1)
case("kl_div", lambda x, y, r: F.kl_div(x, y, reduction=r), [logp, F.softmax(randn(4, 6), -1)], (0, 1))
case("kl_div_log", lambda x, y, r: F.kl_div(x, y, reduction=r, log_target=True),
     [logp, F.log_softmax(randn(4, 6), -1)], (0, 1))
counts = torch.randint(0, 6, (4, 6)).float()
case("poisson_nll", lambda x, y, r: F.poisson_nll_loss(x, y, reduction=r), [x, counts], (0, 1))
case("poisson_nll_full", lambda x, y, r: F.poisson_nll_loss(x, y, log_input=False, full=True, reduction=r),
     [rand(4, 6, lo=0.1, hi=4), counts])
case("gaussian_nll", lambda x, y, v, r: F.gaussian_nll_loss(x, y, v, reduction=r), [x, y, rand(4, 6, lo=0.1)],
     (0, 1, 2))
case("gaussian_nll_full", lambda x, y, v, r: F.gaussian_nll_loss(x, y, v, full=True, eps=0.3, reduction=r),
     [x, y, rand(4, 1)], (0, 1))
case("hinge_embedding", lambda x, y, r: F.hinge_embedding_loss(x, y, margin=0.8, reduction=r), [x, signs(4, 6)])
case("soft_margin", lambda x, y, r: F.soft_margin_loss(x, y, reduction=r), [x, signs(4, 6)])


def focal(x, y, alpha, gamma, r):
    """torchvision.ops.sigmoid_focal_loss"""
    p = torch.sigmoid(x)
    ce = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    p_t = p * y + (1 - p) * (1 - y)
    loss = ce * ((1 - p_t) ** gamma)
    if alpha >= 0:
        loss = (alpha * y + (1 - alpha) * (1 - y)) * loss
    return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[r]


hard = torch.randint(0, 2, (4, 6)).float()
case("focal", lambda x, y, r: focal(x, y, 0.25, 2, r), [x, hard])
case("focal_plain", lambda x, y, r: focal(x, y, -1, 1.5, r), [x, hard])

labels = torch.tensor([1, 4, 2, 0, 2])
ignored = torch.tensor([1, -100, 2, 0, 2])
logits, weight = randn(5, 6, scale=2), rand(6, lo=0.3, hi=2)
case("nll", lambda x, t, r: F.nll_loss(x, t, reduction=r), [F.log_softmax(logits, -1), labels])
case("nll_weight", lambda x, t, w, r: F.nll_loss(x, t, w, ignore_index=2, reduction=r),
     [F.log_softmax(logits, -1), labels, weight])
case("cross_entropy", lambda x, t, r: F.cross_entropy(x, t, reduction=r), [logits, ignored])
case("cross_entropy_smooth", lambda x, t, w, r: F.cross_entropy(x, t, w, label_smoothing=0.2, reduction=r),
     [logits, ignored, weight])
case("multi_margin", lambda x, t, r: F.multi_margin_loss(x, t, reduction=r), [logits, labels])
case("multi_margin_2", lambda x, t, w, r: F.multi_margin_loss(x, t, p=2, margin=0.6, weight=w, reduction=r),
     [logits, labels, weight])
many = torch.tensor([[3, 0, -1, 1, 2, 4], [1, -1, -1, -1, -1, -1], [-1, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5],
                     [5, 2, -1, -1, -1, -1]])
case("multi_label_margin", lambda x, t, r: F.multilabel_margin_loss(x, t, reduction=r), [logits, many])
case("multi_label_soft_margin", lambda x, y, r: F.multilabel_soft_margin_loss(x, y, reduction=r), [x, hard])
case("multi_label_soft_margin_weight", lambda x, y, w, r: F.multilabel_soft_margin_loss(x, y, w, reduction=r),
     [x, hard, weight])

sequence = randn(9, 4, 5)
targets = torch.tensor([[1, 2, 2, 3], [4, 4, 4, 4], [1, 0, 0, 0], [0, 0, 0, 0]])
targets[targets == 0] = 1
lengths = [torch.tensor([9, 9, 5, 4]), torch.tensor([4, 4, 1, 0])]
case("ctc", lambda x, t, i, n, r: F.ctc_loss(F.log_softmax(x, -1), t, i, n, reduction=r), [sequence, targets, *lengths])
short = [torch.tensor([9, 6, 5, 0]), torch.tensor([4, 4, 1, 1])]
case("ctc_zero_infinity",
     lambda x, t, i, n, r: F.ctc_loss(F.log_softmax(x, -1), t, i, n, reduction=r, zero_infinity=True),
     [sequence, targets, *short])

a, b, c = randn(5, 7), randn(5, 7), randn(5, 7)
side = signs(5)
case("margin_ranking", lambda x, z, y, r: F.margin_ranking_loss(x, z, y, margin=0.3, reduction=r),
     [randn(5), randn(5), side], (0, 1))
case("cosine_embedding", lambda x, z, y, r: F.cosine_embedding_loss(x, z, y, margin=-0.2, reduction=r), [a, b, side],
     (0, 1))
case("triplet", lambda x, z, y, r: F.triplet_margin_loss(x, z, y, margin=1.0, reduction=r), [a, b, c], (0, 1, 2))
case("triplet_swap", lambda x, z, y, r: F.triplet_margin_loss(x, z, y, margin=2.0, p=3, swap=True, reduction=r),
     [a, b, c], (0, 1, 2))
case("triplet_distance", lambda x, z, y, r: F.triplet_margin_with_distance_loss(
    x, z, y, distance_function=lambda u, v: (u - v).abs().sum(-1), margin=1.5, reduction=r), [a, b, c], (0, 1, 2))


def reduced(loss, r):
    return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[r]


def dice(x, y, r):
    x, y = x.flatten(1), y.flatten(1)
    return reduced(1 - (2 * (x * y).sum(1) + 1) / (x.sum(1) + y.sum(1) + 1), r)


case("dice", dice, [rand(3, 4, 5), torch.randint(0, 2, (3, 4, 5)).float()], (0,))
case("info_nce", lambda q, k, r: F.cross_entropy(
    F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).T / 0.2, torch.arange(5), reduction=r), [a, b], (0, 1))

out = {name: value.contiguous() for name, value in out.items()}
save_file(out, pathlib.Path(__file__).parent / "losses.safetensors", metadata={"format": "pt"})
