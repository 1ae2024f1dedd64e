#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Full-size weights written by PyTorch (a state_dict as safetensors, random numbers) against the logits that gradd's
model gives with them, loaded by name. The models are torchvision's and Hugging Face's own where these packages are
there, else the same modules of models.py. usage: weights.py PARITY_PROGRAM [FOLDER]"""
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

import models

LIMIT = 1e-4
source = pathlib.Path(__file__).resolve().parents[2]


def resnet50():
    try:
        import torchvision
        return torchvision.models.resnet50(weights=None), f"torchvision {torchvision.__version__}"
    except ImportError:
        return models.ResNet(50), "models.py"


def gpt2():
    try:
        import transformers
        config = transformers.GPT2Config(attn_pdrop=0, embd_pdrop=0, resid_pdrop=0)
        net = transformers.GPT2LMHeadModel(config)
        net.plain = net.forward
        net.forward = lambda ids: net.plain(ids).logits
        return net, f"transformers {transformers.__version__}"
    except ImportError:
        net = models.Gpt2()
        for name in ("wte", "wpe"):  # as published; PyTorch's own 1 makes logits of 430, whose last bit is 3e-5
            torch.nn.init.normal_(net.transformer[name].weight, std=0.02)
        return net, "models.py"


def stir(net, x):
    """Nothing is left at the 0 or 1 that it began with; running statistics are those of a batch."""
    with torch.no_grad():
        for name, t in net.state_dict().items():
            if name.endswith("bias"):
                t.normal_(0, 0.1)
            elif t.dim() == 1 and t.dtype == torch.float32 and not name.endswith("running_var"):
                t.normal_(1, 0.1)
        norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 0.9
        if norms:
            net.train()
            net(x)
    net.eval()


def tensors_of(net):
    """A state_dict; tied tensors under each of their names, as torch.save would have them."""
    return {name: t.detach().clone().contiguous() for name, t in net.state_dict().items()}


CASES = {
    "resnet50": (resnet50, "resnet50.yaml", "",
                 "{idx: {images: \"%s\", labels: \"%s\"}}", lambda: torch.randn(2, 3, 224, 224)),
    "gpt2": (gpt2, "gpt2.yaml", ", strip: \"transformer.\"",
             "{text: {path: \"%s\", context: 64}}", lambda: torch.randint(0, 50257, (2, 64))),
}


def compare(name, program, folder):
    make, model, strip, data, input_of = CASES[name]
    torch.manual_seed(7)
    net, origin = make()
    x = input_of()
    stir(net, x)
    weights, file_in, file_out, job = (folder / f"{name}-{part}" for part in ("weights.safetensors", "in.safetensors",
                                                                             "out.safetensors", "job.yaml"))
    save_file(tensors_of(net), weights)
    save_file({"x": x}, file_in)
    any_file = pathlib.Path(__file__).resolve()
    job.write_text(f"model:\n  file: {source}/configs/models/{model}\n  weights: {{file: {weights}{strip}}}\n"
                   f"data: {{train: {data.replace('%s', str(any_file))}}}\n"
                   "training: {steps: 1, batch: 2, optimizer: {sgd: {lr: 1}}}\nresources: {threads: 2}\n")
    with torch.no_grad():
        theirs = net(x)
    subprocess.run([program, "forward", job, file_in, file_out], check=True)
    ours = load_file(file_out)["logits"]
    difference = (ours - theirs).abs().max().item()
    print(f"{name}: {origin}, {len(net.state_dict())} tensors by name; logits {list(theirs.shape)} up to "
          f"{theirs.abs().max().item():.3f}, largest difference {difference:.2e} (limit {LIMIT:.0e})", flush=True)
    return difference


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else temporary)
        folder.mkdir(parents=True, exist_ok=True)
        differences = {name: compare(name, program, folder) for name in CASES}
    print("figure: " + ", ".join(f"{name} {d:.1e}" for name, d in differences.items()))
    return 0 if all(d <= LIMIT for d in differences.values()) else 1


sys.exit(main())
