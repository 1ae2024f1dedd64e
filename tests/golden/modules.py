# SPDX-License-Identifier: Apache-2.0
"""What the scripts that write golden modules for tests/worker/test_parity.c share.

A case NAME holds NAME/model (u8: a job's `model:` in YAML), NAME/training (u8[1]), NAME/x, NAME/y, NAME/dy (a random
gradient of y), NAME/dx (where x is floating), NAME/state.PARAMETER (the state dict before), NAME/grad.PARAMETER, and in
training NAME/after.BUFFER. Everything is computed in float64 from inputs and weights that float32 holds, and stored as
float32. PARAMETER is PyTorch's name in nn.Sequential(module), so a layer without a name is "0".
A case may hold NAME/error.KEY, f32[2], for KEY of y, dx, grad.PARAMETER, after.BUFFER: PyTorch's own error in float32, its
norm and its largest element. A gradient that is zero in exact arithmetic (see case's `zeros`) has NAME/zero.PARAMETER,
f32[1], in its place: the root mean square of all the gradients, which is the scale of the terms that cancel in it.
"""
import copy
import fnmatch
import itertools
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


def spread_out(module):
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
    """What a run gives, under the keys of NAME/error."""
    x = x.clone().requires_grad_(True) if x.is_floating_point() else x
    y = module(x)
    y.backward(dy)
    found = {"y": y, "dx": x.grad} if x.is_floating_point() else {"y": y}
    found |= {f"grad.{name}": p.grad for name, p in module.named_parameters()}
    return found | {f"after.{name}": b for name, b in module.named_buffers() if not name.endswith("num_batches_tracked")}


def _own_errors(module, x, dy, zeros):
    """PyTorch's float32 against its float64; and, in place of a zero gradient's error, the scale of its kind. One run may be
    lucky on a tensor: the error is the largest over PyTorch's own ways to compute the same, with oneDNN and without, in
    either order of the channels, and with the samples in other orders. With two threads: one adds up all of a channel's values in a row where they lie last."""
    exact = _run(copy.deepcopy(module), x, dy)
    rms = torch.cat([t.flatten() for key, t in exact.items() if key.startswith("grad.")]).square().mean().sqrt().item()
    found = {}
    for key, t in exact.items():
        is_zero = any(fnmatch.fnmatchcase(key, "grad." + pattern) for pattern in zeros)
        assert is_zero == (key.startswith("grad.") and t.norm().item() < 1e-12 * rms * t.numel() ** 0.5), key
        found["zero." + key.removeprefix("grad.") if is_zero else "error." + key] = rms if is_zero else (0.0, 0.0)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    for is_onednn in (True, False):
        for order, shift in itertools.product((torch.contiguous_format, torch.channels_last), range(min(len(x), 8))):
            rounded = copy.deepcopy(module).float().to(memory_format=order)
            inputs = (x.float() if x.is_floating_point() else x).roll(shift, 0)
            inputs = inputs.contiguous(memory_format=order) if x.dim() == 4 else inputs
            with torch.backends.mkldnn.flags(enabled=is_onednn):
                run = _run(rounded, inputs, dy.float().roll(shift, 0))
            for key, t in run.items():
                if "error." + key in found:
                    off = (t.roll(-shift, 0) if key in ("y", "dx") else t).double() - exact[key]
                    found["error." + key] = tuple(map(max, found["error." + key], (off.norm().item(), off.abs().max().item())))
    torch.set_num_threads(threads)
    return found


def case(name, layers, module, x, training=True, spread=True, model=None, tolerance=None, measured=False, zeros=()):
    """layers: YAML of the list; model: of the whole `model:` instead. module: what they are in PyTorch. x: the input,
    batch first. A module that isn't nn.Sequential is wrapped in one. tolerance: relative, instead of 1e-5, for networks
    through which rounding errors grow; measured: PyTorch's own float32 errors are written down as such a tolerance.
    zeros: names, as patterns, of the parameters whose gradient is zero in exact arithmetic; say why."""
    if not isinstance(module, nn.Sequential) and model is None:
        module = nn.Sequential(module)
    if spread:
        spread_out(module)
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
        for key, value in _own_errors(before, x.detach(), dy.float().double(), zeros).items():
            TENSORS[f"{name}/{key}"] = np.atleast_1d(np.array(value, dtype=np.float32))
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
