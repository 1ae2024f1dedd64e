# SPDX-License-Identifier: Apache-2.0
"""What the random comparisons share: their command line, when results agree, and how the outcome is told.

PyTorch's float64 is the truth. A result may be off by a share of its size and of the tensor's, and by several times what
PyTorch itself is off in the precision of the run: the largest over its runs, one of which has a rounding error added to
what each layer gives, so that a network through which errors grow is known as one."""
import argparse
import collections
import pathlib
import random
import sys

import torch

# relative, absolute, times PyTorch's own error, size of a rounding error
Limits = collections.namedtuple("Limits", "relative absolute own noise")
LIMITS = {"f32": Limits(1e-5, 2e-6, 10, 2**-23), "bf16": Limits(1e-2, 1e-3, 6, 2**-8), "f16": Limits(1.25e-3, 1.25e-4, 6, 2**-11)}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def arguments(what, text, count, precisions):
    parser = argparse.ArgumentParser(prog=f"scripts/parity.sh {what}", description=text)
    parser.add_argument("program", type=lambda path: pathlib.Path(path).resolve(), help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=count, help=f"how many (default: {count})")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the first; the others count on")
    parser.add_argument("--precision", choices=precisions, default="f32")
    torch.set_num_threads(1)
    return parser.parse_args()


def with_noise(module, noise):
    """module, in which the outputs of all that is in it, and the gradients of these, are off by a rounding error."""
    def stir(_, __, y):
        return y * (1 + noise * torch.randn_like(y)) if torch.is_tensor(y) and y.is_floating_point() else None
    for part in module.modules():
        part.register_forward_hook(stir)
    return module


def difference(key, ours, exact, own, limits, scale=0.0, mixes=False):
    """What is wrong with ours, as text, or None. own: PyTorch's runs in the precision; which values aren't finite is
    that of the first; mixes: not compared, only what both have. scale: of the terms that cancel in the tensor, where its
    own size may say little."""
    if ours.shape != exact.shape:
        return f"{key} has the shape {list(ours.shape)}, PyTorch's {list(exact.shape)}"
    if exact.numel() == 0:
        return None
    ours, *own = (t.double() for t in (ours, *own))
    finite = own[0].isfinite()
    if mixes:
        finite = finite & ours.isfinite()
    elif not torch.equal(finite, ours.isfinite()):
        if not torch.equal(finite, exact.isfinite()):  # an overflow in the precision
            return None
        return f"{key} isn't finite at {int((~ours.isfinite()).sum())} places, PyTorch's at {int((~finite).sum())}"
    usable = finite & exact.isfinite()
    ours, exact, *own = (torch.where(usable, t, 0.0).nan_to_num() for t in (ours, exact, *own))
    size = max(exact.square().mean().sqrt().item(), scale)
    allowed = limits.relative * (exact.abs() + size) + limits.absolute + limits.own * max((t - exact).abs().max() for t in own)
    over = ((ours - exact).abs() / allowed).flatten()
    at = over.argmax().item()
    if over[at] <= 1:
        return None
    return (f"{key}[{at}] is {ours.flatten()[at]:.8g}, PyTorch {exact.flatten()[at]:.8g} "
            f"(itself {own[0].flatten()[at]:.8g}); {over[at]:.3g} times what it may be off")


class Tally:
    def __init__(self, what, options):
        self.what, self.options, self.agree, self.refused, self.differ = what, options, 0, 0, 0
        self.kinds = collections.Counter()

    def add(self, seed, title, wrong, is_refused=False):
        """wrong: None, or what is."""
        self.agree += wrong is None and not is_refused
        self.refused += wrong is None and is_refused
        self.differ += wrong is not None
        if wrong is not None:
            precision = f" --precision {self.options.precision}" if self.options.precision != "f32" else ""
            print(f"{title}: {wrong}\n  again: scripts/parity.sh {self.what} --seed {seed} --count 1{precision}", flush=True)
        elif sys.stderr.isatty():
            print(f"\r{seed - self.options.seed + 1}/{self.options.count}", end="\r", file=sys.stderr, flush=True)

    def end(self):
        print("drawn: " + ", ".join(f"{kind} {count}" for kind, count in sorted(self.kinds.items())))
        print(f"{self.what} from seed {self.options.seed}: {self.agree} agree, {self.refused} refused by both, "
              f"{self.differ} differ")
        return 1 if self.differ else 0
