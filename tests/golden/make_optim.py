#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes optim.safetensors: 20 steps of PyTorch's optimizers on given gradients, rates of its schedulers.
Needs: pip install torch safetensors"""
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
        if key not in ("step", "mu_product", "wide") and value is not None:
            out[f"{name}.{key}"] = value.float()


run("sgd", lambda w, b: torch.optim.SGD([w, b], lr=0.02))
run("sgd_decay", lambda w, b: torch.optim.SGD([w, b], lr=0.02, weight_decay=0.1))
run("momentum", lambda w, b: torch.optim.SGD([w, b], lr=0.02, momentum=0.9, weight_decay=0.1))
run("nesterov", lambda w, b: torch.optim.SGD([w, b], lr=0.02, momentum=0.9, nesterov=True, weight_decay=0.1))
run("adamw", lambda w, b: torch.optim.AdamW([w, b], lr=0.02, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1))
run("adamw_matrices", lambda w, b: torch.optim.AdamW(
    [{"params": [w]}, {"params": [b], "weight_decay": 0.0}], lr=0.02, betas=(0.9, 0.999), weight_decay=0.1))

adam_like = {"adam": torch.optim.Adam, "nadam": torch.optim.NAdam, "radam": torch.optim.RAdam}
for name, kind in adam_like.items():
    run(name, lambda w, b: kind([w, b]))
    extra = {"momentum_decay": 0.01} if name == "nadam" else {}
    run(f"{name}_options", lambda w, b: kind([w, b], betas=(0.8, 0.95), weight_decay=0.1, **extra))
for name, kind, options in (
        ("sgd_dampening", torch.optim.SGD, dict(momentum=0.9, dampening=0.3, weight_decay=0.1)),
        ("adam_amsgrad", torch.optim.Adam, dict(amsgrad=True, betas=(0.8, 0.95), weight_decay=0.1)),
        ("adamw_amsgrad", torch.optim.AdamW, dict(amsgrad=True, betas=(0.8, 0.95), weight_decay=0.1)),
        ("nadam_decoupled", torch.optim.NAdam, dict(weight_decay=0.1, decoupled_weight_decay=True)),
        ("radam_decoupled", torch.optim.RAdam, dict(weight_decay=0.1, decoupled_weight_decay=True)),
        ("sgd_maximize", torch.optim.SGD, dict(momentum=0.9, nesterov=True, weight_decay=0.1, maximize=True)),
        ("adamw_maximize", torch.optim.AdamW, dict(amsgrad=True, maximize=True, weight_decay=0.1)),
        ("adam_maximize", torch.optim.Adam, dict(maximize=True, weight_decay=0.1)),
        ("nadam_maximize", torch.optim.NAdam, dict(maximize=True, weight_decay=0.1)),
        ("radam_maximize", torch.optim.RAdam, dict(maximize=True, weight_decay=0.1)),
        ("adagrad_maximize", torch.optim.Adagrad, dict(maximize=True, weight_decay=0.1)),
        ("adadelta_maximize", torch.optim.Adadelta, dict(maximize=True, weight_decay=0.1)),
        ("rmsprop_maximize", torch.optim.RMSprop, dict(maximize=True, weight_decay=0.1)),
        ("rmsprop_centered", torch.optim.RMSprop, dict(centered=True)),
        ("rmsprop_momentum", torch.optim.RMSprop, dict(momentum=0.8)),
        ("adafactor_maximize", torch.optim.Adafactor, dict(maximize=True, weight_decay=0.1))):
    run(name, lambda w, b: kind([w, b], **options))
    # foreach and fused are other kernels for the same numbers: PyTorch's own differ by rounding only
    plain = {key: out[f"{name}.{key}"] for key in ("weight", "bias")}
    if kind is not torch.optim.Adafactor:
        run("other", lambda w, b: kind([w, b], foreach=True, **options))
        assert all(torch.allclose(plain[key], out[f"other.{key}"], rtol=1e-5, atol=1e-6) for key in plain), name
        for key in [key for key in out if key.startswith("other.")]:
            del out[key]
run("adagrad", lambda w, b: torch.optim.Adagrad([w, b]))
run("adagrad_options", lambda w, b: torch.optim.Adagrad(
    [w, b], lr_decay=0.05, weight_decay=0.1, initial_accumulator_value=0.2))
run("adadelta", lambda w, b: torch.optim.Adadelta([w, b]))
run("adadelta_options", lambda w, b: torch.optim.Adadelta([w, b], rho=0.8, weight_decay=0.1))
run("rmsprop", lambda w, b: torch.optim.RMSprop([w, b]))
run("rmsprop_options", lambda w, b: torch.optim.RMSprop(
    [w, b], alpha=0.9, momentum=0.8, centered=True, weight_decay=0.1))
run("adafactor", lambda w, b: torch.optim.Adafactor([w, b]))
run("adafactor_options", lambda w, b: torch.optim.Adafactor(
    [w, b], beta2_decay=-0.6, d=1.2, weight_decay=0.1))


# What PyTorch hasn't, by the papers' formulas, in float64.
class Paper(torch.optim.Optimizer):
    def __init__(self, params, **options):
        super().__init__(params, {"lr": 0.02, **options})

    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                state["wide"] = state.get("wide", p.detach().double())
                state["step"] = state.get("step", 0) + 1
                self.update(state, state["wide"], p.grad.double(), group)
                p.data.copy_(state["wide"])


class Lion(Paper):
    def update(self, state, p, g, o):
        m = state.setdefault("exp_avg", torch.zeros_like(p))
        p.mul_(1 - o["lr"] * o["decay"]).sub_(o["lr"] * torch.sign(o["beta1"] * m + (1 - o["beta1"]) * g))
        m.mul_(o["beta2"]).add_((1 - o["beta2"]) * g)


class Lamb(Paper):
    def update(self, state, p, g, o):
        m = state.setdefault("exp_avg", torch.zeros_like(p))
        v = state.setdefault("exp_avg_sq", torch.zeros_like(p))
        m.mul_(o["beta1"]).add_((1 - o["beta1"]) * g)
        v.mul_(o["beta2"]).add_((1 - o["beta2"]) * g * g)
        mean, square = m / (1 - o["beta1"] ** state["step"]), v / (1 - o["beta2"] ** state["step"])
        u = mean / (square.sqrt() + 1e-6) + o["decay"] * p
        p.sub_(o["lr"] * p.norm() / u.norm() * u)


class Lars(Paper):
    def update(self, state, p, g, o):
        b = state.setdefault("momentum_buffer", torch.zeros_like(p))
        local = o["trust"] * p.norm() / (g.norm() + o["decay"] * p.norm() + 1e-8)
        b.mul_(o["momentum"]).add_(o["lr"] * local * (g + o["decay"] * p))
        p.sub_(b)


run("lion", lambda w, b: Lion([w, b], beta1=0.9, beta2=0.99, decay=0))
run("lion_options", lambda w, b: Lion([w, b], beta1=0.8, beta2=0.95, decay=0.1))
run("lamb", lambda w, b: Lamb([w, b], beta1=0.9, beta2=0.999, decay=0))
run("lamb_options", lambda w, b: Lamb([w, b], beta1=0.8, beta2=0.95, decay=0.1))
run("lars", lambda w, b: Lars([w, b], trust=1e-3, momentum=0.9, decay=0))
run("lars_options", lambda w, b: Lars([w, b], trust=0.02, momentum=0.8, decay=0.1))


# PyTorch's Muon rounds the matrix to bf16 first; gradd stays in f32.
torch.Tensor.bfloat16 = lambda x: x.clone()


class Muon:
    """Muon for the weight, AdamW for the bias."""

    def __init__(self, w, b, betas, decay, **options):
        self.parts = [torch.optim.Muon([w], lr=0.02, weight_decay=decay, **options),
                      torch.optim.AdamW([b], lr=0.02, betas=betas, weight_decay=decay)]
        self.param_groups = self.parts[0].param_groups + self.parts[1].param_groups
        self.state = self.parts[0].state

    def step(self):
        for part in self.parts:
            part.step()


run("muon", lambda w, b: Muon(w, b, (0.9, 0.999), 0.1))
run("muon_options", lambda w, b: Muon(
    w, b, (0.8, 0.95), 0.1, momentum=0.8, nesterov=False, adjust_lr_fn="match_rms_adamw"))

# schedulers: 40 rates each, lr 0.02
LONG = 40


def rates_of(name, make):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.02)
    scheduler = make(optimizer, torch.optim.lr_scheduler)
    values = []
    for _ in range(LONG):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    out[f"lr.{name}"] = torch.tensor(values, dtype=torch.float64)


rates_of("step", lambda o, s: s.StepLR(o, 7, gamma=0.5))
rates_of("multi_step", lambda o, s: s.MultiStepLR(o, [5, 11, 30], gamma=0.3))
rates_of("exponential", lambda o, s: s.ExponentialLR(o, 0.95))
rates_of("cosine", lambda o, s: s.CosineAnnealingLR(o, LONG, eta_min=0.002))
rates_of("linear", lambda o, s: s.LinearLR(o, 1.0, 0.1, LONG))
rates_of("cosine_restarts", lambda o, s: s.CosineAnnealingWarmRestarts(o, 5, 2, eta_min=0.002))
rates_of("cosine_restarts_same", lambda o, s: s.CosineAnnealingWarmRestarts(o, 6, 1, eta_min=0.0))
rates_of("polynomial", lambda o, s: s.PolynomialLR(o, LONG, power=2.0))
rates_of("one_cycle", lambda o, s: s.OneCycleLR(o, 0.02, total_steps=LONG + 1))
rates_of("one_cycle_linear", lambda o, s: s.OneCycleLR(
    o, 0.02, total_steps=LONG + 1, pct_start=0.4, anneal_strategy="linear", div_factor=10, final_div_factor=100))
rates_of("chained", lambda o, s: s.ChainedScheduler([s.StepLR(o, 7, gamma=0.5), s.ExponentialLR(o, 0.95)]))
rates_of("sequence", lambda o, s: s.SequentialLR(
    o, [s.LinearLR(o, 1.0, 0.1, 15), s.ExponentialLR(o, 0.9)], [15]))


WARMUP, DECAY = 6, 12


def warm(o, s, steps, *rest):
    """A warm-up of `steps`, then schedulers, each for as many steps as stand beside it; the last to the end."""
    parts = ([(s.LinearLR(o, 1 / (steps + 1), 1.0, steps), steps)] if steps > 0 else []) + list(rest)
    ends = [sum(n for _, n in parts[:i]) for i in range(1, len(parts))]
    return s.SequentialLR(o, [part for part, _ in parts], ends)


def steady(o, s):
    return s.ConstantLR(o, factor=1.0, total_iters=1)


def decay_to(share, form):
    """A fall from 1 to share over DECAY steps, for LambdaLR where PyTorch has no scheduler of that form."""
    return lambda step: share + (1 - share) * form(min(step / DECAY, 1))


rates_of("constant", steady)
rates_of("constant_warmup", lambda o, s: warm(o, s, WARMUP, (steady(o, s), LONG)))
rates_of("cosine_warmup", lambda o, s: warm(
    o, s, WARMUP, (s.CosineAnnealingLR(o, LONG - WARMUP, eta_min=0.002), LONG)))
rates_of("linear_warmup", lambda o, s: warm(o, s, WARMUP, (s.LinearLR(o, 1.0, 0.1, LONG - WARMUP), LONG)))
rates_of("stable_decay", lambda o, s: warm(
    o, s, WARMUP, (steady(o, s), LONG - WARMUP - DECAY), (s.LinearLR(o, 1.0, 0.1, DECAY), LONG)))
rates_of("stable_decay_cosine", lambda o, s: warm(
    o, s, WARMUP, (steady(o, s), LONG - WARMUP - DECAY), (s.CosineAnnealingLR(o, DECAY, eta_min=0.002), LONG)))
rates_of("stable_decay_sqrt", lambda o, s: warm(
    o, s, 0, (steady(o, s), LONG - DECAY), (s.LambdaLR(o, decay_to(0.1, lambda t: 1 - math.sqrt(t))), LONG)))

# reduce on plateau: the rate's scale after each value
values = [3.0, 2.0, 1.9, 1.95, 1.93, 1.92, 1.5, 1.4999, 1.4998, 1.6, 1.7, 1.7, 1.7, 1.7, 1.7, 1.7, 1.0, 1.1, 1.1, 1.1]
optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
    optimizer, factor=0.3, patience=1, threshold=1e-3, cooldown=2, min_lr=0.02)
scales = []
for value in values:
    plateau.step(value)
    scales.append(optimizer.param_groups[0]["lr"])
out["plateau.values"], out["plateau.scales"] = (torch.tensor(x, dtype=torch.float64) for x in (values, scales))

# the average of the parameters
source = torch.nn.Linear(7, 3)
average = torch.optim.swa_utils.AveragedModel(source, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
with torch.no_grad():
    for step in range(STEPS):
        source.weight.copy_(weight_grads[step])
        average.update_parameters(source)
out["average"] = average.module.weight.detach()

value_clipped = torch.nn.Parameter(torch.zeros(3, 7))
value_clipped.grad = weight_grads[0].clone()
torch.nn.utils.clip_grad_value_([value_clipped], 0.5)
out["clipped_by_value"] = value_clipped.grad

grads = [torch.nn.Parameter(torch.zeros(3, 7)), torch.nn.Parameter(torch.zeros(7))]
grads[0].grad, grads[1].grad = weight_grads[0].clone(), bias_grads[0].clone()
out["norm"] = torch.nn.utils.clip_grad_norm_(grads, 1.0).double()
out["clipped"] = grads[0].grad
out = {name: value.contiguous() for name, value in out.items()}
save_file(out, here / "optim.safetensors", metadata={"format": "pt"})
