# SPDX-License-Identifier: Apache-2.0
"""Optimizers that PyTorch doesn't have, or has in a lower precision, written from their papers in the parameters' own
type. A group's own keys: is_spared (of decay, and then of a ratio of norms), is_adamw (Muon)."""
import math

import torch


class Paper(torch.optim.Optimizer):
    """update: one tensor's step; t counts from 1."""

    def __init__(self, params, lr, maximize=False, foreach=False, **options):
        super().__init__(params, dict(lr=lr, weight_decay=0.0, **options))
        self.sign = -1 if maximize else 1

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state[p]
                    state["t"] = state.get("t", 0) + 1
                    self.update(p, self.sign * p.grad, state, group)


def mean(state, name, value, beta):
    """beta mean + (1 - beta) value, from 0 on"""
    state[name] = beta * state.get(name, torch.zeros_like(value)) + (1 - beta) * value
    return state[name]


class Lion(Paper):
    """Chen et al., Symbolic discovery of optimization algorithms, 2023, program 1."""

    def update(self, p, g, state, group):
        first, second = group["betas"]
        before = state.get("momentum", torch.zeros_like(g))
        step = (first * before + (1 - first) * g).sign()
        mean(state, "momentum", g, second)
        p.sub_(group["lr"] * (step + group["weight_decay"] * p))


def adam_direction(g, state, betas, eps):
    """Kingma and Ba, Adam, 2015, algorithm 1."""
    first = mean(state, "first", g, betas[0]) / (1 - betas[0] ** state["t"])
    second = mean(state, "second", g * g, betas[1]) / (1 - betas[1] ** state["t"])
    return first / (second.sqrt() + eps)


class Lamb(Paper):
    """You et al., Large batch optimization for deep learning, 2020, algorithm 2, phi the identity."""

    def update(self, p, g, state, group):
        step = adam_direction(g, state, group["betas"], group["eps"]) + group["weight_decay"] * p
        sizes = p.norm().item(), step.norm().item()
        ratio = 1.0 if group["is_spared"] or 0.0 in sizes else sizes[0] / sizes[1]
        p.sub_(group["lr"] * ratio * step)


class Lars(Paper):
    """You et al., Large batch training of convolutional networks, 2017, algorithm 1."""

    def update(self, p, g, state, group):
        sizes, decay = (p.norm().item(), g.norm().item()), group["weight_decay"]
        ratio = 1.0 if group["is_spared"] or 0.0 in sizes else \
            group["trust_coefficient"] * sizes[0] / (sizes[1] + decay * sizes[0] + 1e-8)
        velocity = group["momentum"] * state.get("velocity", torch.zeros_like(g)) + group["lr"] * ratio * (g + decay * p)
        state["velocity"] = velocity
        p.sub_(velocity)


class Muon(Paper):
    """Jordan et al., Muon, 2024; scales of a step as in PyTorch's; vectors, and groups that say so, by AdamW."""

    def update(self, p, g, state, group):
        lr = group["lr"]
        p.mul_(1 - lr * group["weight_decay"])
        if group["is_adamw"]:
            p.sub_(lr * adam_direction(g, state, group["betas"], group["eps"]))
            return
        momentum = mean(state, "momentum", g, group["momentum"])
        x = (1 - group["momentum"]) * g + group["momentum"] * momentum if group["nesterov"] else momentum
        x = x.flatten(1)
        rows, columns = x.shape
        x = x / max(x.norm().item(), 1e-7)
        for _ in range(group["iterations"]):
            square = x @ x.T if rows <= columns else x.T @ x
            series = -4.775 * square + 2.0315 * square @ square
            x = 3.4445 * x + (series @ x if rows <= columns else x @ series)
        scale = 0.2 * math.sqrt(max(rows, columns)) if group["match_adamw"] else math.sqrt(max(1, rows / columns))
        p.sub_(lr * scale * x.view_as(p))
