# SPDX-License-Identifier: Apache-2.0
"""What the scripts that write golden modules for tests/worker/test_parity.c share.

A case NAME holds NAME/model (u8: a job's `model:` in YAML), NAME/training (u8[1]), NAME/x, NAME/y, NAME/dy (a random
gradient of y), NAME/dx (where x is floating), NAME/state.PARAMETER (the state dict before), NAME/grad.PARAMETER, and in
training NAME/after.BUFFER. Everything is computed in float64 from inputs and weights that float32 holds, and stored as
float32. PARAMETER is PyTorch's name in nn.Sequential(module), so a layer without a name is "0".
A case may hold NAME/error, f64[8]: the largest error that PyTorch itself has in float32 in a tensor of y, dx, the
gradients, the buffers. It is relative to the tensor's norm and, as some gradients are 0 but for rounding, that of as many
elements of a tenth of their kind's root mean square; these four tenths follow.
"""
import copy
import os
import textwrap

import numpy as np
import torch
import torch.nn as nn
from safetensors.numpy import save_file

TENSORS = {}


def to_numpy(t):
    t = t.detach()
    return (t.float() if t.is_floating_point() else t).contiguous().numpy().copy()


def _spread(module):
    """Nothing is left at 0 or 1, so that every parameter matters."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.std(unbiased=False) < 1e-6:
                parameter.add_(0.3 * torch.randn_like(parameter))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.3 * torch.randn_like(buffer))
            elif name.endswith("running_var"):
                buffer.mul_(0.5 + torch.rand_like(buffer))


def _run(module, x, dy):
    """The tensors that a run gives, by the kinds of NAME/error."""
    x = x.clone().requires_grad_(True) if x.is_floating_point() else x
    y = module(x)
    y.backward(dy)
    buffers = [b for name, b in module.named_buffers() if not name.endswith("num_batches_tracked")]
    return [y], [x.grad] if x.is_floating_point() else [], [p.grad for p in module.parameters()], buffers


def _own_errors(module, x, dy):
    """PyTorch's float32 against its float64, with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    exact = _run(copy.deepcopy(module), x, dy)
    rounded = _run(copy.deepcopy(module).float(), x.float() if x.is_floating_point() else x, dy.float())
    torch.set_num_threads(threads)
    floors = [0.1 * torch.cat([t.flatten() for t in ts]).square().mean().sqrt().item() if ts else 0.0 for ts in exact]
    errors = [max((((a.double() - b).norm() / (b.norm() + floor * b.numel() ** 0.5)).item() for a, b in zip(some, others)),
                  default=0.0) for some, others, floor in zip(rounded, exact, floors)]
    return errors + floors


def case(name, layers, module, x, training=True, spread=True, model=None, tolerance=None, measured=False):
    """layers: YAML of the list; model: of the whole `model:` instead. module: what they are in PyTorch. x: the input,
    batch first. A module that isn't nn.Sequential is wrapped in one. tolerance: relative, instead of 1e-5, for networks
    through which rounding errors grow; measured: PyTorch's own float32 errors are written down as such a tolerance."""
    if not isinstance(module, nn.Sequential) and model is None:
        module = nn.Sequential(module)
    if spread:
        _spread(module)
    module = module.float().double().train(training)
    text = model if model is not None else "layers:\n" + textwrap.indent(textwrap.dedent(layers).strip("\n"), "  ")
    assert f"{name}/model" not in TENSORS, name
    TENSORS[f"{name}/model"] = np.frombuffer(text.encode(), dtype=np.uint8).copy()
    TENSORS[f"{name}/training"] = np.array([training], dtype=np.uint8)
    if tolerance is not None:
        TENSORS[f"{name}/tolerance"] = np.array([tolerance], dtype=np.float32)
    for key, value in module.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            TENSORS[f"{name}/state.{key}"] = to_numpy(value)
    if x.is_floating_point():
        x = x.float().double().requires_grad_(True)
    before = copy.deepcopy(module) if measured else None
    y = module(x)
    dy = torch.randn(y.shape).double()
    y.backward(dy)
    if measured:
        TENSORS[f"{name}/error"] = np.array(_own_errors(before, x.detach(), dy.float().double()))
        print(f"{name}: PyTorch's float32 is off by", *(f"{e:.1e}" for e in TENSORS[f"{name}/error"][:4]))
    for key, value in (("x", x), ("y", y), ("dy", dy)):
        TENSORS[f"{name}/{key}"] = to_numpy(value)
    if x.is_floating_point():
        TENSORS[f"{name}/dx"] = to_numpy(x.grad)
    for key, value in module.named_parameters():
        TENSORS[f"{name}/grad.{key}"] = to_numpy(value.grad)
    for key, value in module.named_buffers() if training else ():
        if not key.endswith("num_batches_tracked"):
            TENSORS[f"{name}/after.{key}"] = to_numpy(value)


def write(path):
    save_file(TENSORS, path)
    os.chmod(path, 0o644)
    n_cases = sum(name.endswith("/model") for name in TENSORS)
    print(f"{path}: {n_cases} cases, {sum(t.nbytes for t in TENSORS.values())} bytes")
