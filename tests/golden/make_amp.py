#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes amp.safetensors: outputs and gradients of an MLP and of an attention block under torch.autocast("cpu",
bfloat16), the same in float64, and the sequence of scales of torch.amp.GradScaler. Needs: pip install torch
safetensors"""
import pathlib

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(7)
here = pathlib.Path(__file__).parent
out = {}


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(48, 96)
        self.norm = nn.LayerNorm(96)
        self.proj = nn.Linear(96, 24)

    def forward(self, x):
        return self.proj(self.norm(F.gelu(self.fc(x), approximate="tanh")))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.qkv = nn.Linear(32, 96)
        self.proj = nn.Linear(32, 32)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (u.view(b, t, 4, 8).transpose(1, 2) for u in self.qkv(self.norm(x)).split(c, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.proj(y.transpose(1, 2).reshape(b, t, c))


def record(name, module, x, dy):
    for p in module.parameters():
        nn.init.normal_(p, p.mean().item(), 0.2)
    for p, tensor in module.named_parameters():
        out[f"{name}.{p}"] = tensor.detach().clone()
    out[f"{name}.x"] = x.clone()
    out[f"{name}.dy"] = dy.clone()
    for kind in ("bf16", "f64"):
        m = module.double() if kind == "f64" else module
        m.zero_grad()
        inputs = (x.double() if kind == "f64" else x.clone()).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bf16"):
            y = m(inputs)
        y.backward(dy.to(y.dtype))
        out[f"{name}.{kind}.y"] = y.detach().float()
        out[f"{name}.{kind}.dx"] = inputs.grad.float()
        for p, tensor in m.named_parameters():
            out[f"{name}.{kind}.d{p}"] = tensor.grad.float()


record("mlp", Mlp(), torch.randn(40, 48), torch.randn(40, 24))
record("attention", Attention(), torch.randn(2, 19, 32), torch.randn(2, 19, 32))

for name, options in (("default", {}), ("quick", dict(init_scale=1000.0, growth_factor=3.0, backoff_factor=0.25,
                                                       growth_interval=4))):
    scaler = torch.amp.GradScaler("cpu", **options)
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.0)
    found, scales, trackers = [], [], []
    bad = torch.rand(400, generator=torch.Generator().manual_seed(3)) < 0.12
    for i in range(400):
        optimizer.zero_grad()
        scaler.scale((parameter * 1.0).sum()).backward()
        if bad[i]:
            parameter.grad.fill_(float("inf") if i % 2 == 0 else float("nan"))
        scaler.step(optimizer)
        scaler.update()
        found.append(int(bad[i]))
        scales.append(scaler.get_scale())
        trackers.append(scaler._get_growth_tracker())
    out[f"scaler.{name}.found"] = torch.tensor(found, dtype=torch.int32)
    out[f"scaler.{name}.scale"] = torch.tensor(scales, dtype=torch.float32)
    out[f"scaler.{name}.tracker"] = torch.tensor(trackers, dtype=torch.int32)

save_file({k: v.contiguous() for k, v in out.items()}, here / "amp.safetensors")
