#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes weights_gpt2.safetensors and weights_resnet50.safetensors, state_dicts of toy sizes under Hugging Face's and
torchvision's names, and weights_io.safetensors, inputs and the logits that PyTorch gives for them. Needs: pip install
torch safetensors"""
import pathlib
import sys

import torch
from safetensors.torch import save_file

here = pathlib.Path(__file__).parent
sys.path.insert(0, str(here.parent / "parity"))
import models  # noqa: E402

torch.manual_seed(5)
out = {}
cases = {"gpt2": (models.Gpt2(29, 16, 16, 2, 2), torch.randint(0, 29, (3, 12))),
         "resnet50": (models.ResNet(50, 10, 2), torch.randn(4, 3, 32, 32))}
for name, (net, x) in cases.items():
    with torch.no_grad():
        for key, t in net.state_dict().items():
            if t.dtype == torch.float32 and not key.endswith("running_var"):
                t.add_(torch.randn_like(t), alpha=0.1)
        net.train()
        for _ in range(20 if name == "resnet50" else 0):
            net(torch.randn(16, 3, 32, 32))  # running statistics
        net.eval()
        if name == "gpt2":  # half of the tensors in half precision, exactly
            for key, t in net.state_dict().items():
                if "mlp" in key:
                    t.copy_(t.bfloat16().float())
        out[f"{name}.x"], out[f"{name}.logits"] = x, net(x).contiguous()
    state = {key: (t.bfloat16() if name == "gpt2" and "mlp" in key else t).detach().clone()
             for key, t in net.state_dict().items()}
    save_file(state, here / f"weights_{name}.safetensors")
save_file(out, here / "weights_io.safetensors")
