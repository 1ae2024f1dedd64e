#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random models of up to three layers against PyTorch: values, gradients, running statistics and evaluation. What PyTorch
refuses must be refused with a message, and nothing else."""
import contextlib
import copy
import pathlib
import random
import re
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from safetensors.numpy import load_file, save_file

import random_layers
from compare import LIMITS, Tally, arguments, difference, with_noise
from random_layers import spread_out

CHUNK, N_THREADS = 150, 3
MIXES = re.compile("attention|transformer|upsample|softsign")  # in PyTorch what isn't finite times a weight of 0 isn't 0
PICKS = re.compile("max")  # rounding to bf16 makes ties, and another value the largest


def shape_draw(r):
    """Of x with its batch; None: tokens."""
    if r.random() < 0.06:
        return None
    n = r.choice([0, 1, 1, 1, 2, 2, 2, 3])
    sizes = [1, 2, 3, 4, 5, 6, 8] + ([9, 16, 17, 21] if n < 3 else [])
    return [r.choice([1, 2, 3, 5]), *(r.choice(sizes) for _ in range(n + 1))]


def values_draw(r, shape):
    """Mostly normal; else with equal values, zeroes, large ones, or some that aren't finite."""
    if shape is None:
        return torch.randint(0, random_layers.COUNT, (r.choice([1, 2, 5]), r.choice([1, 2, 7]))), "tokens"
    x = torch.randn(shape)
    kind = r.choice(["normal"] * 8 + ["ties", "zero", "large", "odd"])
    if kind == "odd":
        for _ in range(r.randint(1, 2)):
            x.view(-1)[r.randrange(x.numel())] = r.choice([float("nan"), float("inf"), -float("inf")])
    return {"ties": (2 * x).round(), "zero": 0 * x, "large": 30 * x}.get(kind, x), kind


def to(x, dtype):
    return x.to(dtype) if x.is_floating_point() else x


def run(module, x, dy=None, autocast=False):
    """(dy, what a step and an evaluation afterwards give)"""
    x = x.clone().requires_grad_(True) if x.is_floating_point() else x
    with torch.autocast("cpu", torch.bfloat16, autocast):
        y = module(x)
    dy = torch.randn(y.shape) if dy is None else dy
    found = {"y": y.detach()}
    y.backward(dy.to(y.dtype))
    if x.is_floating_point():
        found["dx"] = x.grad
    found |= {f"grad.{name}": p.grad for name, p in module.named_parameters()}
    found |= {f"after.{name}": b.clone() for name, b in module.named_buffers() if not name.endswith("num_batches_tracked")}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, autocast):
        found["eval"] = module.eval()(x.detach())
    return dy, found


@contextlib.contextmanager
def fused_attention():
    """PyTorch's fused attention instead of the composed one, which a grouped or masked one is; the fused one's gradient of
    weights near 0 and 1 is rounding of larger terms, as ours."""
    plain = F.scaled_dot_product_attention

    def fused(q, k, v, attn_mask=None, **options):
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
        options.pop("enable_gqa", None)
        mask = attn_mask[None] if attn_mask is not None and attn_mask.dim() == 3 else attn_mask
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH], set_priority=True):
            return plain(q, k, v, attn_mask=mask, **options)
    F.scaled_dot_product_attention = fused
    try:
        yield
    finally:
        F.scaled_dot_product_attention = plain


class Case:
    def __init__(self, seed, precision):
        self.seed, self.name, self.limits, self.is_low = seed, f"c{seed}", LIMITS[precision], precision == "bf16"
        r = random.Random(seed)
        torch.manual_seed(seed)
        self.x, self.kind = values_draw(r, shape_draw(r))
        texts, self.module = self.layers_draw(r)
        self.kinds = [text.strip("{").partition(":")[0] for text in texts]
        self.model = "layers: [" + ", ".join(texts) + "]"
        spread_out(self.module)
        self.state = {k: v.clone() for k, v in self.module.state_dict().items() if not k.endswith("num_batches_tracked")}
        self.is_training, self.dy, self.error = r.random() < 0.8, torch.zeros(1), None
        try:
            self.expect()
        except random_layers.REFUSALS as error:
            self.error = error

    def layers_draw(self, r):
        """Layers until there are enough, or one that PyTorch refuses."""
        texts, module, shape = [], nn.Sequential(), None if self.kind == "tokens" else list(self.x.shape)
        for _ in range(r.choice([1, 1, 1, 2, 3])):
            text, added = random_layers.layer(r, shape)
            texts.append(text)
            module.append(added)
            try:
                with torch.no_grad():
                    shape = list(copy.deepcopy(module).double()(to(self.x, torch.float64)).shape)
            except random_layers.REFUSALS:
                break
            if not 2 <= len(shape) <= 5 or 0 in shape:
                break
        return texts, module

    def expect(self):
        exact = copy.deepcopy(self.module).double().train(self.is_training)
        if 0 in exact(to(self.x, torch.float64)).shape:
            raise ValueError("nothing is left")
        exact = copy.deepcopy(self.module).double().train(self.is_training)
        self.dy, self.exact = run(exact, to(self.x, torch.float64))
        self.own = []
        self.run_own(0, self.limits.noise)

    def run_own(self, *noises):
        """PyTorch's runs in the precision."""
        for noise in noises:
            module = with_noise(copy.deepcopy(self.module), noise) if noise else copy.deepcopy(self.module)
            try:
                self.own.append(run(module.train(self.is_training), self.x, self.dy, self.is_low)[1])
            except RuntimeError:  # PyTorch's autocast lacks a layer (bilinear)
                self.own.append(run(module.train(self.is_training), self.x, self.dy)[1])

    def tensors(self):
        out = {"model": np.frombuffer(self.model.encode(), np.uint8).copy(), "training": np.array([self.is_training], np.uint8),
               "x": self.x.numpy(), "dy": self.dy.float().numpy()}
        out |= {f"state.{key}": value.numpy() for key, value in self.state.items()}
        return {f"{self.name}/{key}": np.ascontiguousarray(value) for key, value in out.items()}

    def judge(self, got):
        """What is wrong; None: nothing."""
        if got is None:
            return "the program died"
        if "error" in got:
            message = got["error"].tobytes().decode()
            return None if self.error is not None else f"refused: {message}"
        if self.error is not None:
            return f"taken, PyTorch says: {str(self.error)[:150]}"
        scale = torch.cat([v.flatten() for k, v in self.exact.items() if k.startswith("grad")] or [torch.zeros(1)])
        scale = scale[scale.isfinite()].square().mean().sqrt().nan_to_num().item()
        wrong = self.differ(got, scale)
        if wrong is not None:  # one rounding error may be a lucky one where much cancels
            torch.manual_seed(self.seed)
            self.run_own(*[self.limits.noise] * 12)
            with fused_attention():
                self.run_own(0)
            wrong = self.differ(got, scale)
        return wrong

    def differ(self, got, scale):
        """What does, or None. scale: of all gradients."""
        # behind what isn't finite training has ended, and what PyTorch gives depends on how it composes the layer
        has_gradients = bool(self.exact["y"].isfinite().all()) and not (self.is_low and PICKS.search(self.model))
        for key, exact in self.exact.items():
            if not has_gradients and key.startswith(("dx", "grad")):
                continue
            if key not in got:
                return f"{key} is missing"
            wrong = difference(key, torch.from_numpy(got[key]), exact, [own[key] for own in self.own], self.limits,
                               scale if key.startswith("grad") else 0.0,
                               self.kind == "odd" and MIXES.search(self.model) is not None)
            if wrong is not None:
                return wrong
        return None


def run_program(program, cases, folder, n_threads, precision):
    """{name: {key: array}}; a case at which the program dies has None."""
    save_file({key: value for case in cases for key, value in case.tensors().items()}, folder / "in.safetensors")
    done = subprocess.run([program, "modules", folder / "in.safetensors", folder / "out.safetensors", str(n_threads), precision],
                          capture_output=True, text=True, timeout=100)
    if done.returncode != 0:
        if len(cases) == 1:
            return {cases[0].name: None}
        halves = cases[:len(cases) // 2], cases[len(cases) // 2:]
        return {k: v for half in halves for k, v in run_program(program, half, folder, n_threads, precision).items()}
    found = {case.name: {} for case in cases}
    for key, value in load_file(folder / "out.safetensors").items():
        name, _, rest = key.partition("/")
        found[name][rest] = value
    return found


def main():
    options = arguments("modules", __doc__, 1000, ["f32", "bf16"])
    tally, end = Tally("modules", options), options.seed + options.count
    with tempfile.TemporaryDirectory() as temporary:
        for begin in range(options.seed, end, CHUNK):
            cases, found = [Case(seed, options.precision) for seed in range(begin, min(begin + CHUNK, end))], {}
            for k in range(N_THREADS):
                some = [case for case in cases if case.seed % N_THREADS == k]
                if some:
                    found |= run_program(options.program, some, pathlib.Path(temporary), 1 + k, options.precision)
            for case in cases:
                tally.kinds.update(case.kinds)
                title = f"{case.model} of {list(case.x.shape)} {case.kind}{'' if case.is_training else ', evaluation'}"
                tally.add(case.seed, title, case.judge(found[case.name]), case.error is not None)
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
