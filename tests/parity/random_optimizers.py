# SPDX-License-Identifier: Apache-2.0
"""Random optimizers, groups of parameters and schedules, as a job has them and as PyTorch computes them."""
import fnmatch
import json

import torch
import torch.nn as nn
from torch.optim import lr_scheduler as S

N_STEPS = 12


def some(r, *values):
    """None in half the cases, and then the first value is what it means."""
    value = r.choice(values)
    return (None, values[0]) if r.random() < 0.4 else (value, value)


def groups_draw(r, names):
    """The job's groups of parameters: the first whose pattern fits counts."""
    if r.random() < 0.5:
        return []
    patterns = [p for p in ("*.bias", "0.*", "*.weight", names[-1], names[0]) if fnmatch.filter(names, p)]
    drawn = [dict(match=json.dumps(pattern), lr_scale=some(r, 1.0, 0.3, 0.0)[0], weight_decay=r.choice([None, 0.05, 0.0]),
                  freeze=some(r, False, False, True)[0]) for pattern in r.sample(patterns, min(len(patterns), r.randint(1, 2)))]
    return drawn if not all(g["freeze"] for g in drawn) else []


def optimizer_draw(r):
    """(kind, fields, lr, function of a model and groups)"""
    kind = r.choice(["sgd", "sgd", "adamw", "adam", "nadam", "radam", "adagrad", "adadelta", "rmsprop", "adafactor"])
    lr = r.choice([0.001, 0.01, 0.03]) * (10 if kind == "adadelta" else 1)
    decay_t, decay = some(r, 0.01 if kind == "adamw" else 0.0, 0.1, 0.003)
    only_t, only = some(r, True, False)
    most_t, most = some(r, False, True)
    betas, eps = r.choice([None, [0.8, 0.95], [0.0, 0.9]]), r.choice([1e-8, 1e-3])
    fields = dict(lr=lr, weight_decay=decay_t, maximize=most_t, decay_matrices_only=only_t)
    options = dict(lr=lr, maximize=most, foreach=False)
    if kind == "sgd":
        fields.pop("decay_matrices_only")
        only = False
        momentum = r.choice([0.0, 0.9])
        nesterov = momentum > 0 and r.random() < 0.5
        damp = r.choice([0.0, 0.3]) if not nesterov else 0.0
        fields |= dict(momentum=momentum, nesterov=nesterov, dampening=damp)
        options |= dict(momentum=momentum, nesterov=nesterov, dampening=damp)
        make = torch.optim.SGD
    elif kind in ("adamw", "adam", "nadam", "radam"):
        fields |= dict(betas=betas, epsilon=eps)
        options |= dict(betas=tuple(betas or (0.9, 0.999)), eps=eps)
        flag = r.random() < 0.5
        if kind in ("adamw", "adam"):
            fields["amsgrad"] = options["amsgrad"] = flag
        else:
            fields["decoupled"], options["decoupled_weight_decay"] = flag, flag
        if kind == "nadam":
            fields["momentum_decay"] = options["momentum_decay"] = r.choice([0.004, 0.1])
        make = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "nadam": torch.optim.NAdam, "radam": torch.optim.RAdam}[kind]
    elif kind == "adagrad":
        fields |= dict(lr_decay=0.05, initial_accumulator=0.2, epsilon=eps)
        options |= dict(lr_decay=0.05, initial_accumulator_value=0.2, eps=eps)
        make = torch.optim.Adagrad
    elif kind == "adadelta":
        rho = r.choice([0.9, 0.5])
        fields |= dict(rho=rho, epsilon=1e-4)
        options |= dict(rho=rho, eps=1e-4)
        make = torch.optim.Adadelta
    elif kind == "rmsprop":
        alpha, momentum, centered = r.choice([0.99, 0.7]), r.choice([0.0, 0.8]), r.random() < 0.5
        fields |= dict(alpha=alpha, momentum=momentum, centered=centered, epsilon=1e-3)
        options |= dict(alpha=alpha, momentum=momentum, centered=centered, eps=1e-3)
        make = torch.optim.RMSprop
    else:
        b, d = r.choice([-0.8, -0.5]), r.choice([1.0, 1.5])
        fields |= dict(beta2_decay=b, clip_threshold=d)
        options |= dict(beta2_decay=b, d=d)
        make = torch.optim.Adafactor

    def build(net, groups):
        own = []
        for name, p in net.named_parameters():
            group = next((g for g in groups if fnmatch.fnmatchcase(name, g["match"].strip('"'))), {})
            p.requires_grad_(not group.get("freeze"))
            given = group.get("weight_decay")
            own.append({"params": [p], "scale": 1.0 if group.get("lr_scale") is None else group["lr_scale"],
                        "weight_decay": given if given is not None else 0.0 if only and p.dim() < 2 else decay})
        return make([g for g in own if g["params"][0].requires_grad], **options)
    return kind, fields, lr, build


def schedule_draw(r, lr):
    """(schedule of a job, rate of each step)"""
    kind = r.random()
    if kind < 0.8:
        return plain_schedule(r, lr, N_STEPS)
    if kind < 0.9:
        parts = [plain_schedule(r, lr, N_STEPS) for _ in range(2)]
        return {"chained": {"parts": [part for part, _ in parts]}}, [a * b / lr for a, b in zip(*(rates for _, rates in parts))]
    at = r.randint(1, N_STEPS - 1)
    parts = [plain_schedule(r, lr, n) for n in (at, N_STEPS - at)]
    return {"sequence": {"parts": [part for part, _ in parts], "milestones": [at]}}, parts[0][1] + parts[1][1]


def plain_schedule(r, lr, n):
    """The same over n steps, of a schedule that PyTorch has."""
    kind = r.choice(["constant", "cosine", "linear", "step", "multi_step", "exponential", "cosine_restarts", "polynomial",
                     "one_cycle"])
    warm, final = r.choice([0, 0, 1, 3, n]) if kind not in ("one_cycle", "multi_step") else 0, r.choice([0.0, lr / 10])
    warm = min(warm, n)
    left, fields, optimizer = max(n - warm, 1), dict(warmup=warm), torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    if kind == "one_cycle":
        rise, first, last = r.choice([0.3, 0.5, 0.05]), r.choice([25.0, 3.0]), r.choice([1e4, 10.0])
        fields = dict(rise=rise, divisor=first, final_divisor=last, shape=r.choice(["cosine", "linear"]))
        made = S.OneCycleLR(optimizer, lr, total_steps=n, pct_start=rise, anneal_strategy=fields["shape"].replace("cosine", "cos"),
                            div_factor=first, final_div_factor=last)
    elif kind == "constant":
        made = S.ConstantLR(optimizer, 1.0)
    elif kind == "cosine":
        fields["final_lr"], made = final, S.CosineAnnealingLR(optimizer, left, final)
    elif kind == "linear":
        fields["final_lr"], made = final, S.LinearLR(optimizer, 1.0, final / lr, left)
    elif kind == "step":
        every, gamma = r.randint(1, 5), r.choice([0.1, 0.7])
        fields |= dict(every=every, gamma=gamma)
        made = S.StepLR(optimizer, every, gamma)
    elif kind == "multi_step":
        at, gamma = sorted(r.sample(range(1, 11), 3)), r.choice([0.3, 0.7])
        fields = dict(milestones=at, gamma=gamma)
        made = S.MultiStepLR(optimizer, at, gamma)
    elif kind == "exponential":
        fields["gamma"], made = 0.8, S.ExponentialLR(optimizer, 0.8)
    elif kind == "cosine_restarts":
        length, factor = r.randint(1, 5), r.randint(1, 3)
        fields |= dict(length=length, factor=factor, final_lr=final)
        made = S.CosineAnnealingWarmRestarts(optimizer, length, factor, final)
    else:
        power = r.choice([0.5, 1.0, 2.0])
        fields["power"], made = power, S.PolynomialLR(optimizer, left, power)
    rates = [lr * (i + 1) / (warm + 1) for i in range(warm)]
    while len(rates) < n:
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < n:
            made.step()
    return {kind: fields}, rates
