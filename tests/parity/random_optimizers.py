# SPDX-License-Identifier: Apache-2.0
"""Random optimizers, groups of parameters and schedules, as a job has them and as PyTorch computes them."""
import fnmatch
import json
import math

import torch
import torch.nn as nn
from torch.optim import lr_scheduler as S

import paper_optimizers

N_STEPS = 12


def some(r, *values):
    """None in half the cases, and then the first value is what it means."""
    value = r.choice(values)
    return (None, values[0]) if r.random() < 0.4 else (value, value)


def groups_draw(r, names, optimizer):
    """The job's groups of parameters: the first whose pattern fits counts."""
    if r.random() < 0.5:
        return []
    patterns = [p for p in ("*.bias", "0.*", "*.weight", names[-1], names[0]) if fnmatch.filter(names, p)]
    drawn = [dict(match=json.dumps(pattern), lr_scale=some(r, 1.0, 0.3, 0.0)[0], weight_decay=r.choice([None, 0.05, 0.0]),
                  freeze=some(r, False, False, True)[0],
                  adamw=some(r, False, True)[0] if optimizer == "muon" else None) for pattern in r.sample(patterns, min(len(patterns), r.randint(1, 2)))]
    return drawn if not all(g["freeze"] for g in drawn) else []


def optimizer_draw(r):
    """(kind, fields, lr, function of a model and groups)"""
    factor = 1.0  # of the rate of AdamW in another optimizer
    kind = r.choice(["sgd", "sgd", "adamw", "adam", "nadam", "radam", "adagrad", "adadelta", "rmsprop", "adafactor",
                     "lion", "lamb", "lars", "muon", "muon"])
    lr = r.choice([0.001, 0.01, 0.03]) * (10 if kind == "adadelta" else 1)
    decay_t, decay = some(r, {"adamw": 0.01, "muon": 0.1}.get(kind, 0.0), 0.1, 0.003)
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
    elif kind == "adafactor":
        b, d = r.choice([-0.8, -0.5]), r.choice([1.0, 1.5])
        floor_t, floor = some(r, 1e-3, 0.1)
        fields |= dict(beta2_decay=b, clip_threshold=d, scale_floor=floor_t)
        options |= dict(beta2_decay=b, d=d, eps=(2**-23, floor))  # that of f32
        make = torch.optim.Adafactor
    else:
        own, other = paper_draw(r, kind, lr, betas)
        fields, options, make = fields | own, options | other, getattr(paper_optimizers, kind.title())
        factor = own.get("adamw_lr", lr) / lr if own.get("adamw_lr") else 1.0

    def build(net, groups):
        own = []
        for name, p in net.named_parameters():
            group = next((g for g in groups if fnmatch.fnmatchcase(name, g["match"].strip('"'))), {})
            p.requires_grad_(not group.get("freeze"))
            given = group.get("weight_decay")
            spared, adamw = only and p.dim() < 2, p.dim() < 2 or bool(group.get("adamw"))
            scale = 1.0 if group.get("lr_scale") is None else group["lr_scale"]
            own.append({"params": [p], "scale": scale * (factor if adamw else 1.0), "is_spared": spared, "is_adamw": adamw,
                        "weight_decay": given if given is not None else 0.0 if spared else decay})
        return make([g for g in own if g["params"][0].requires_grad], **options)
    return kind, fields, lr, build


def paper_draw(r, kind, lr, betas):
    """Fields and options of one of paper_optimizers."""
    if kind == "lion":
        return dict(betas=betas), dict(betas=betas or (0.9, 0.99))
    if kind == "lamb":
        eps_t, eps = some(r, 1e-6, 1e-3)
        return dict(betas=betas, epsilon=eps_t), dict(betas=betas or (0.9, 0.999), eps=eps)
    if kind == "lars":
        momentum_t, momentum = some(r, 0.9, 0.5, 0.0)
        trust_t, trust = some(r, 0.001, 0.05, 1.0)
        return dict(momentum=momentum_t, trust_coefficient=trust_t), dict(momentum=momentum, trust_coefficient=trust)
    momentum_t, momentum = some(r, 0.95, 0.8)
    nesterov_t, nesterov = some(r, True, False)
    n_t, n = some(r, 5, 1, 3)
    match_t, match = some(r, False, True)
    eps_t, eps = some(r, 1e-8, 1e-3)
    fields = dict(momentum=momentum_t, nesterov=nesterov_t, iterations=n_t, match_adamw=match_t, epsilon=eps_t, betas=betas,
                  adamw_lr=r.choice([None, lr / 4]))
    return fields, dict(momentum=momentum, nesterov=nesterov, iterations=n, match_adamw=match, eps=eps,
                        betas=betas or (0.9, 0.999))


class Plateau:
    """PyTorch's ReduceLROnPlateau of the validation losses, as a factor of the schedule's rate."""

    def __init__(self, lr, options):
        self.lr = lr
        self.optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
        self.watch = S.ReduceLROnPlateau(self.optimizer, threshold_mode="rel", eps=0.0, **options) if options else None

    def see(self, loss):
        if self.watch is not None:
            self.watch.step(loss)

    def factor(self):
        return self.optimizer.param_groups[0]["lr"] / self.lr


def plateau_draw(r, lr):
    """(schedule, rates before its reductions, arguments of ReduceLROnPlateau)"""
    factor_t, factor = some(r, 0.1, 0.5, 0.9)
    patience, cooldown = r.choice([0, 0, 1, 2]), r.choice([None, 0, 1, 3])
    threshold_t, threshold = some(r, 1e-4, 0.01, 0.3)
    least, warm = r.choice([None, 0.0, lr / 3, 2 * lr]), r.choice([None, 0, 3])
    fields = dict(factor=factor_t, patience=patience, threshold=threshold_t, cooldown=cooldown, min_lr=least, warmup=warm)
    return {"plateau": fields}, [lr * min(1.0, (i + 1) / ((warm or 0) + 1)) for i in range(N_STEPS)], \
        dict(factor=factor, patience=patience, threshold=threshold, cooldown=cooldown or 0, min_lr=least or 0.0)


def schedule_draw(r, lr):
    """(schedule of a job, rate of each step, what a plateau in it watches for or None)"""
    kind = r.random()
    if kind < 0.15:
        return plateau_draw(r, lr)
    if kind < 0.75:
        return *plain_schedule(r, lr, N_STEPS), None
    if kind < 0.9:
        parts = [(*plain_schedule(r, lr, N_STEPS), None) for _ in range(2)]
        if kind > 0.83:
            parts[r.randrange(2)] = plateau_draw(r, lr)
        return {"chained": {"parts": [part for part, _, _ in parts]}}, \
            [a * b / lr for a, b in zip(*(rates for _, rates, _ in parts))], parts[0][2] or parts[1][2]
    at = r.randint(1, N_STEPS - 1)
    parts = [plain_schedule(r, lr, n) for n in (at, N_STEPS - at)]
    return {"sequence": {"parts": [part for part, _ in parts], "milestones": [at]}}, parts[0][1] + parts[1][1], None


def stable_decay(r, lr, n):
    """Hu et al., MiniCPM, 2024: warm-up, the same rate, a fall over the last steps; the fall as a square root of Hägele et
    al., 2024."""
    warm, fall = r.choice([0, 1, 3]), r.choice([1, 3, 6, 2 * n])
    final_t, final = some(r, 0.0, lr / 10)
    shape_t, shape = some(r, "linear", "cosine", "sqrt")
    warm = min(warm, n)
    long = min(fall, n - warm)
    left = {"linear": lambda x: 1 - x, "cosine": lambda x: 0.5 * (1 + math.cos(math.pi * x)), "sqrt": lambda x: 1 - math.sqrt(x)}
    rates = [lr * (i + 1) / (warm + 1) if i < warm else
             lr if i < n - long else final + (lr - final) * left[shape]((i - (n - long)) / long) for i in range(n)]
    return {"stable_decay": dict(warmup=warm, decay=fall, final_lr=final_t, shape=shape_t)}, rates


def plain_schedule(r, lr, n):
    """The same over n steps, of a schedule without parts that watches nothing."""
    kind = r.choice(["constant", "cosine", "linear", "step", "multi_step", "exponential", "cosine_restarts", "polynomial",
                     "one_cycle", "stable_decay"])
    if kind == "stable_decay":
        return stable_decay(r, lr, n)
    warm, final = r.choice([0, 0, 1, 3, n]) if kind not in ("one_cycle", "multi_step") else 0, r.choice([0.0, lr / 10])
    warm = min(warm, n)
    left, fields, optimizer = max(n - warm, 1), dict(warmup=warm), torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    if kind == "one_cycle":
        rise, first, last = r.choice([0.3, 0.5, 0.05]), r.choice([25.0, 3.0]), r.choice([1e4, 10.0])
        rise = 0.3 if rise * n == 1 else rise  # PyTorch divides by the 0 steps of that rise
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
