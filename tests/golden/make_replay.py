#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random programs of tensor operations with PyTorch's answers, for tests/engine/test_replay.c, which says the format.

make_replay.py [--seed N] [--count N] [--families a,b] [--found] > replay.txt       Needs: pip install torch numpy
"""
import argparse
import math
import random
import sys
import warnings

import numpy as np
import torch

import replay_torch
from replay_found import FOUND
from replay_torch import BINARY, BOOL, DTYPES, FLOATS, INTS, LOSSES, UNARY, departs, indices, run_step, wide

warnings.filterwarnings("ignore")
torch.set_num_threads(1)
NAMES = dict(zip(DTYPES, "f32 f64 bf16 f16 i64 i32 u8 bool".split()))
RELATIVE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 2**-7, torch.float16: 2**-9.9}
LACKS = ("more than 1 value", "does not have a device", "single memory location", "not implemented", "not supported",
         "multiple views")  # what PyTorch says of things that it can't do and we may
R = random.Random()


# ---- programs ----
class Program:
    def __init__(self, family):
        self.family, self.label, self.steps, self.t, self.dead = family, family, [], [], False

    def x(self, t, grad=False):
        """An input tensor; its number."""
        self.steps.append(("x", t.clone().contiguous(), grad and t.dtype in FLOATS))
        self.t.append(t)
        return len(self.t) - 1

    def do(self, name, x=(), i=(), f=()):
        """The numbers of the results; None when PyTorch refuses."""
        if self.dead:
            return None
        self.label = name if self.label == self.family else self.label + "+" + name
        self.steps.append(("do", name, list(x), [int(v) for v in i], [float(v) for v in f]))
        before = len(self.t)
        try:
            with torch.no_grad():
                y = run_step(name, [None if k < 0 else self.t[k] for k in x], self.steps[-1][3], self.steps[-1][4])
        except Exception as e:
            if isinstance(e, (TypeError, AttributeError, NameError)):
                print(name, e, file=sys.stderr)
            self.dead = True
            return None
        self.t += y
        return list(range(before, len(self.t)))


def execute(p, is_wide):
    """Runs the steps for real. (tensors, index of the step that failed or None, its error, gradients)"""
    replay_torch.WIDE = is_wide
    torch.set_default_dtype(torch.float64 if is_wide else torch.float32)
    t, error, at = [], None, None
    try:
        for at, step in enumerate(p.steps):
            if step[0] == "x":
                t.append(step[1].clone().to(wide(step[1].dtype)).requires_grad_(step[2]))
            elif step[0] == "back":
                t[step[1]].backward(step[2].to(wide(step[2].dtype)))
            else:
                t += run_step(step[1], [None if k < 0 else t[k] for k in step[2]], step[3], step[4])
        at = None
    except Exception as e:
        error = e
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    replay_torch.WIDE = False
    try:
        return t, at, error, [a.grad if a.is_leaf or a.retains_grad else None for a in t]
    except RuntimeError as e:  # an output of split that was changed in place
        return t, len(p.steps) - 1, NotImplementedError(str(e)), [None] * len(t)


def hexed(t):
    flat = t.detach().reshape(-1).clone(memory_format=torch.contiguous_format)
    return flat.view(torch.uint8).numpy().tobytes().hex() if t.numel() else ""


def shape_text(t):
    return ",".join(map(str, t.shape)) or "-"


EXACT = set("""abs sign floor ceil round trunc neg relu reshape permute slice expand contiguous maximum minimum where
select cat gather sort topk flip roll sub add mul amax amin max min""".split())


def tolerance(p, t, w, is_grad=False):
    if t.dtype not in FLOATS:
        return "0,0"
    ops = [s[1] for s in p.steps if s[0] == "do"]
    if t.dtype in FLOATS and all(o in EXACT for o in ops):
        return "0,0"
    a, b = t.detach().double(), w.detach().double()
    off = (a - b).abs()
    off = off[torch.isfinite(off)] if off.shape == a.shape else off
    ok = (a - b).abs() > 0.3 * RELATIVE[t.dtype] * b.abs()
    off = (a - b).abs()[ok]
    off = off[torch.isfinite(off)]
    absolute = 4 * off.max().item() if off.numel() else 0.0
    tiny = {torch.float32: 1e-37, torch.float64: 1e-16, torch.bfloat16: 1e-37, torch.float16: 1.3e-7}[t.dtype]
    if p.family not in ("binary_", "binary", "with_number", "with_scalars") and t.numel():
        size = b[torch.isfinite(b)].abs()
        eps = {torch.float32: 1e-7, torch.float64: 2e-14, torch.bfloat16: 2e-2, torch.float16: 2e-3}[t.dtype]
        if p.family in ("found", "unary", "binary", "with_number", "with_scalars", "activation"):
            eps = eps if is_grad else 0
        if p.family in ("norm", "sequence", "loss"):
            eps *= 20
        absolute += eps * max(1.0, size.max().item() if size.numel() else 0.0)
    return f"{RELATIVE[t.dtype]:.4g},{absolute + tiny:.4g}"


def emit(p, number, out):
    t, at, error, grads = execute(p, False)
    root = None
    if at is None:
        roots = [k for k, a in enumerate(t) if a.requires_grad and not a.is_leaf and a.numel() > 0]
        if roots:
            root = roots[-1] if R.random() < 0.8 else R.choice(roots)
            p.steps.append(("back", root, values(t[root].dtype, t[root].shape, "small")))
            t, at, error, grads = execute(p, False)
    tw, at_w, _, grads_w = execute(p, True)
    out.write(f"case {number} {p.label}\n")
    for k, step in enumerate(p.steps):
        if step[0] == "x":
            out.write(f"x {NAMES[step[1].dtype]} {shape_text(step[1])} {int(step[2])} {hexed(step[1])}\n")
        elif step[0] == "do":
            out.write(f"do {step[1]} {' '.join(map(str, step[2]))} ; {' '.join(map(str, step[3]))} ; "
                      f"{' '.join(map(repr, step[4]))}\n".replace("  ", " ").replace(" \n", "\n"))
        else:
            write_values(p, t, tw, at_w, out)
            out.write(f"back {step[1]} {hexed(step[2])}\n")
        if at == k:
            text = str(error)
            lacks = isinstance(error, NotImplementedError) or any(w in text for w in LACKS)
            tolerated = step[0] == "do" and departs(step[1], given(step, t), step[3], step[4], error)
            out.write("maybe\n" if lacks or tolerated else "err\n")
            return
        if step[0] == "do" and departs(step[1], given(step, t), step[3], step[4], None):
            out.write("maybe\n")
        elif step[0] == "do" and may_refuse(p, k, t):
            out.write("maybe ERR_STATE\n")
        if step[0] == "back" and p.family != "found" and any(q[0] == "do" and q[1].endswith("_") for q in p.steps):
            out.write("maybe ERR_STATE\n")
    if root is None:
        write_values(p, t, tw, at_w, out)
    else:
        for k, g in enumerate(grads):
            if (t[k].is_leaf and t[k].requires_grad) or t[k].retains_grad:
                if g is None:
                    out.write(f"grad {k} 0,0 none\n")
                else:
                    gw = grads_w[k] if at_w is None and grads_w[k] is not None else g
                    tol = tolerance(p, g, gw, True)
                    out.write(f"grad {k} {tol if tol != '0,0' else '1e-5,1e-30' if g.dtype in FLOATS[:2] else '0.008,1e-6'} {hexed(g)}\n")


def given(step, t):
    return [None if k < 0 or k >= len(t) else t[k] for k in step[2]]


def may_refuse(p, k, t):
    """gradd documents that it refuses what PyTorch can do: a backward from what was filled, which has no graph."""
    return p.family != "found" and any(q[0] == "do" and q[1].endswith("_") for q in p.steps[: k + 1])


def write_values(p, t, tw, at_w, out):
    for k, a in enumerate(t):
        w = tw[k] if k < len(tw) and tw[k].shape == a.shape else a
        out.write(f"val {k} {NAMES[a.dtype]} {shape_text(a)} {tolerance(p, a, w)} {hexed(a)}\n")


# ---- random arguments ----
def shape(n=None, sizes=(0, 1, 2, 3, 4, 5, 7), most=160):
    n = R.choice([0, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 7, 8]) if n is None else n
    while True:
        s = [R.choice(sizes if R.random() < 0.97 else (9, 17, 33)) for _ in range(n)]
        if R.random() < 0.8:
            s = [max(1, v) for v in s]
        if math.prod(s) <= most:
            return s
        sizes = sizes[:-1] if len(sizes) > 3 else sizes


def values(dtype, s, kind="normal"):
    s, n = list(s), math.prod(s)
    g = np.random.default_rng(R.getrandbits(32))
    if dtype == BOOL:
        return torch.tensor(g.integers(0, 2, n) > 0, dtype=BOOL).reshape(s)
    if dtype in INTS:
        info = torch.iinfo(dtype)
        lo, hi = (0 if dtype == torch.uint8 else -9), 10
        a = g.integers(lo, hi, n)
        if kind == "positive":
            a = np.abs(a) + 1
        if kind == "wild":
            a = np.where(g.random(n) < 0.5, g.choice(np.array([info.min, info.max, info.max - 1, info.min + 1, 0], object), n), a)
        return torch.tensor([int(v) for v in a], dtype=dtype).reshape(s)
    a = g.standard_normal(n) * g.choice([0.5, 1, 3])
    if kind == "positive":
        a = np.abs(a) + 0.1
    elif kind == "unit":
        a = g.random(n) * 0.9 + 0.05
    elif kind == "ties" or kind == "small":
        a = g.integers(-3, 4, n) * (1.0 if kind == "ties" or g.random() < 0.5 else 0.5)
    elif kind == "half":
        a = g.integers(-9, 10, n) * 0.5
    elif kind == "wild":
        a = np.where(g.random(n) < 0.6, g.choice([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e38, -1e-40, 3e4, 1e-5, 88.9, -104.0], n), a)
    return torch.tensor(a, dtype=torch.float64).to(dtype).reshape(s)


kind = lambda: R.choice("normal normal normal positive ties half wild".split())
floats = lambda: R.choice([torch.float32] * 4 + FLOATS)
anything = lambda: R.choice(DTYPES)


def tensor(p, dtype, s, k=None, grad=None, layout=None):
    """A tensor of this shape, often seen through views; its number."""
    k = kind() if k is None else k
    grad = (R.random() < 0.7) if grad is None else grad
    layout = R.choice("plain plain perm step expand select strided".split()) if layout is None else layout
    n = len(s)
    if layout == "perm" and n > 1:
        order = R.sample(range(n), n)
        base = p.x(values(dtype, [s[d] for d in order], k), grad)
        return p.do("permute", [base], [0] + [order.index(d) for d in range(n)])[0]
    if layout == "step" and n > 0:
        d, step, start = R.randrange(n), R.randint(1, 3), R.randint(0, 2)
        b = list(s)
        b[d] = start + s[d] * step + R.randint(0, 1)
        base = p.x(values(dtype, b, k), grad)
        y = p.do("slice", [base], [d - R.choice([0, n]), start, start + s[d] * step, step])[0]
        return y if p.t[y].shape == torch.Size(s) else p.x(values(dtype, s, k), grad)
    if layout == "expand" and n > 0:
        b = [1 if R.random() < 0.5 else v for v in s]
        base = p.x(values(dtype, b, k), grad)
        return p.do("expand", [base], [v if R.random() < 0.8 or v != b[d] else -1 for d, v in enumerate(s)])[0]
    if layout == "select" and n < 8:
        d, m = R.randint(0, n), R.randint(1, 3)
        base = p.x(values(dtype, s[:d] + [m] + s[d:], k), grad)
        return p.do("select", [base], [d, R.randrange(-m, m)])[0]
    if layout == "strided" and 0 < n < 8 and math.prod(s) > 0:
        strides = [R.randint(0, 4) for _ in s]
        offset = R.randint(0, 2)
        need = offset + 1 + sum((v - 1) * w for v, w in zip(s, strides))
        base = p.x(values(dtype, [need + R.randint(0, 2)], k), grad)
        return p.do("as_strided", [base], [n, offset] + s + strides)[0]
    return p.x(values(dtype, s, k), grad)


def broadcast_pair(s):
    """Two shapes that broadcast to s, mostly."""
    def one():
        b = [1 if R.random() < 0.25 else v for v in s]
        return b[R.randint(0, len(b)):] if R.random() < 0.3 else b
    a, b = one(), one()
    if R.random() < 0.05 and b:
        b[R.randrange(len(b))] += 1
    return a, b


def axis(n, wrong=0.04):
    if R.random() < wrong or n == 0:
        return R.choice([n, -n - 1, 0, -1])
    return R.randrange(-n, n)


def axis_list(n):
    if R.random() < 0.25 or n == 0:
        return [] if R.random() < 0.9 else [axis(n)]
    some = R.sample(range(n), R.randint(1, n))
    some = [d - (n if R.random() < 0.5 else 0) for d in some]
    if R.random() < 0.03:
        some.append(R.choice([some[0], n, -n - 1]))
    return some


def index(p, s, size, wrong=0.05, negative=False, dtypes=(torch.int64, torch.int64, torch.int32, torch.uint8)):
    dtype = R.choice(dtypes)
    if size == 0 and math.prod(s):
        t = torch.zeros(s, dtype=dtype)
    else:
        lo = -size if negative and dtype != torch.uint8 else 0
        t = torch.tensor([R.randrange(lo, max(size, 1)) for _ in range(math.prod(s))], dtype=dtype).reshape(s)
    if R.random() < wrong and t.numel():
        t.view(-1)[R.randrange(t.numel())] = R.choice([size, size + 3, -size - 1] if dtype != torch.uint8 else [size])
    return tensor_of(p, t)


def tensor_of(p, t):
    if t.dim() > 1 and R.random() < 0.4:
        order = R.sample(range(t.dim()), t.dim())
        base = p.x(t.permute(order))
        return p.do("permute", [base], [0] + [order.index(d) for d in range(t.dim())])[0]
    return p.x(t)


# ---- families ----
def unary(p):
    name = R.choice(UNARY)
    p.do(name, [tensor(p, R.choice([floats(), anything()]), shape())])


def binary(p):
    a, b = broadcast_pair(shape())
    same = anything()
    p.do(R.choice(BINARY), [tensor(p, R.choice([same, floats(), anything()]), a), tensor(p, R.choice([same, anything()]), b)])


def with_number(p):
    x = tensor(p, R.choice([floats(), anything()]), shape())
    is_float, side = R.random() < 0.5, R.random() < 0.4
    name = R.choice(BINARY)
    f = R.choice([0.0, -0.0, 0.5, 2.0, -1.5, 3.0, math.inf, math.nan, 1e10, 1e-3])
    i = R.choice([0, 1, -1, 2, 3, -3, 255, 256, 2**31, 2**40])
    if name in ("maximum", "minimum", "atan2", "logical_and", "logical_or", "logical_xor") or (side and name in "eq ne lt le gt ge fmod".split()):
        name = R.choice(["add", "sub", "mul", "div", "power", "remainder"])
    p.do("number_" + name, [x], [is_float, side, i], [f])


def with_scalars(p):
    s = shape()
    d = R.choice([floats(), anything()])
    name = R.choice("scale pow clamp where masked_fill lerp addcmul addcdiv".split())
    v = R.choice([0.0, 1.0, -1.0, 2.0, 0.5, -1.5, 3.0, -2.0])
    if name in ("scale", "pow"):
        p.do(name, [tensor(p, floats(), s)], [], [v, R.choice([0.0, 1.0, -2.5])][: 2 if name == "scale" else 1])
    elif name == "clamp":
        lo, hi = R.choice([(-1, 1), (-0.5, 2), (0, math.inf), (-math.inf, 1.5), (2, 1), (-math.inf, math.inf)])
        p.do(name, [tensor(p, d, s)], [], [lo, hi])
    elif name == "where":
        a, b = broadcast_pair(s)
        c = tensor(p, R.choice([BOOL, BOOL, torch.uint8]), broadcast_pair(s)[0], "ties")
        p.do(name, [c, tensor(p, d, a), tensor(p, R.choice([d, anything()]), b)])
    elif name == "masked_fill":
        m = tensor(p, BOOL, broadcast_pair(s)[0])
        p.do(name, [tensor(p, d, s), m], [], [R.choice([v, math.inf, -math.inf, math.nan]) if d in FLOATS else float(int(v))])
    else:
        a, b = broadcast_pair(s)
        d = floats()
        x = [tensor(p, d, s), tensor(p, d, a)] + ([tensor(p, d, b, "positive")] if name != "lerp" else [])
        p.do(name, x, [], [v])


def activation(p):
    x = tensor(p, floats(), shape(), R.choice(["normal", "half", "ties", "positive"]))
    v = R.choice([0.01, 0.5, 1.0, 2.0])
    name = R.choice("gelu leaky_relu elu celu hardtanh softplus softshrink hardshrink threshold glu softmin softmax log_softmax prelu gated".split())
    n = p.t[x].dim()
    if name in ("glu", "softmin", "softmax", "log_softmax"):
        p.do(name, [x], [axis(n)])
    elif name == "gelu":
        p.do(name, [x], [R.random() < 0.5])
    elif name == "prelu":
        c = p.t[x].shape[1] if n > 1 else 1
        p.do(name, [x, tensor(p, p.t[x].dtype, [R.choice([1, c])], "normal", layout="plain")])
    elif name == "gated":
        p.do(name, [x, tensor(p, p.t[x].dtype, list(p.t[x].shape))], [R.randrange(6)])
    else:
        p.do(name, [x], [], {"hardtanh": [-1, v], "softplus": [v, 20], "threshold": [v, -1]}.get(name, [v]))


def reduction(p):
    s = shape()
    name = R.choice("sum mean amax amin prod any all argmax argmin logsumexp norm var std max min".split())
    d = R.choice([floats(), anything()])
    x = tensor(p, d, s, R.choice(["normal", "ties", "half", "wild", "positive"]))
    keep = R.random() < 0.5
    if name in ("max", "min"):
        p.do(name, [x], [axis(len(s)), keep])
    else:
        f = {"norm": [R.choice([2, 1, 0, 3, 0.5, math.inf, -math.inf, -1])], "var": [R.choice([0, 1, 1, 2])], "std": [R.choice([0, 1])]}
        p.do(name, [x], [keep] + axis_list(len(s)), f.get(name, []))


def random_view(p, x):
    """One random view of tensor x; its number or None."""
    s = list(p.t[x].shape)
    n = len(s)
    name = R.choice("reshape permute transpose slice expand squeeze unsqueeze select narrow diagonal movedim split chunk unbind".split())
    if name == "reshape":
        m = math.prod(s)
        new = list(s)
        R.shuffle(new)
        if R.random() < 0.5 and len(new) > 1:
            new = [new[0] * new[1]] + new[2:]
        elif R.random() < 0.5 and len(new) < 8:
            new.insert(R.randint(0, len(new)), 1)
        if R.random() < 0.3 and new:
            new[R.randrange(len(new))] = -1
        if R.random() < 0.03:
            new.append(2)
        return p.do(name, [x], new)
    if name == "permute":
        order = R.sample(range(n), n)
        order = [d - (n if R.random() < 0.3 else 0) for d in order]
        return p.do(name, [x], [0] + order)
    if name in ("transpose", "movedim"):
        return p.do(name, [x], [axis(n), axis(n)])
    if name == "slice":
        if n == 0:
            return [x]
        d = axis(n)
        size = s[d] if -n <= d < n else 3
        return p.do(name, [x], [d, R.randint(-size - 2, size + 1), R.randint(-size - 2, size + 3), R.randint(1, 3)])
    if name == "expand":
        new = [R.choice([v, -1]) if v != 1 else R.choice([1, 2, 3, -1]) for v in s]
        if n < 7 and R.random() < 0.3:
            new = [R.randint(1, 2)] + new
        return p.do(name, [x], new)
    if name == "squeeze":
        return p.do(name, [x], [axis(n)])
    if name == "unsqueeze":
        return p.do(name, [x], [R.randint(-n - 1, n)]) if n < 8 else [x]
    if name in ("select", "narrow"):
        d = axis(n)
        size = s[d] if n and -n <= d < n else 1
        i = R.randrange(-size - (R.random() < 0.05), size + (R.random() < 0.05)) if size else 0
        return p.do(name, [x], [d, i] if name == "select" else [d, i, R.randint(0, max(0, size - i % max(size, 1)))])
    if name == "diagonal":
        return p.do(name, [x], [R.randint(-2, 2), axis(n), axis(n)]) if n > 1 else [x]
    d = axis(n)
    if n == 0 or not -n <= d < n or s[d] > 12 or s[d] == 0:
        return [x]
    return p.do(name, [x], [d] if name == "unbind" else [d, R.randint(1, 4)])


def view(p):
    x = tensor(p, R.choice([torch.float32, anything()]), shape(), "normal")
    for _ in range(R.randint(1, 5)):
        y = random_view(p, x)
        if y is None or len(p.t) > 30:
            return
        x = R.choice(y)
    if R.random() < 0.6 and p.t[x].dtype in FLOATS:
        p.do(R.choice(["neg", "square", "contiguous", "exp"]), [x])


def copies(p):
    s = shape()
    n = len(s)
    d = R.choice([torch.float32, anything()])
    name = R.choice("flip roll repeat pad tril triu cat stack as_strided channels_last cast".split())
    if name in ("cat", "stack"):
        m, a, x = R.randint(1, 4), axis(n) if name == "cat" else R.randint(-n - 1, n), []
        for _ in range(m):
            b = list(s)
            if name == "cat" and n and -n <= a < n:
                b[a] = R.randint(0, 3)
            if R.random() < 0.02 and n:
                b[0] += 1
            x.append(tensor(p, d if R.random() < 0.7 else anything(), b))
        p.do(name, x, [a])
        return
    x = tensor(p, d, [2, 3, 4, 5] if name == "channels_last" else s)
    if name == "cast":
        other = anything()
        if other not in FLOATS and other != BOOL and p.t[x].dtype in FLOATS:
            x = tensor(p, d, s, "half" if other != torch.uint8 else "positive")
        p.do("cast", [x], [DTYPES.index(other)])
        return
    arguments = {"flip": [0] + (R.sample(range(n), R.randint(1, n)) if n else []), "roll": [axis(n), R.randint(-9, 9)],
                 "repeat": [R.randint(1, 2) for _ in range(min(8 - n, R.randint(0, 1)))] + [R.choice([1, 1, 2, 0, 3]) for _ in s],
                 "pad": [R.randint(0, 2) for _ in range(2 * n)], "tril": [R.randint(-3, 3)], "triu": [R.randint(-3, 3)],
                 "channels_last": [], "as_strided": []}[name]
    if name == "as_strided":
        x = tensor(p, d, s, layout="plain")
        need = math.prod(s)
        b = shape(R.randint(0, 3))
        arguments = [len(b), R.randint(0, 2)] + b + [R.randint(0, 3) for _ in b]
    p.do(name, [x], arguments, [R.choice([0.0, 1.5, -1.0]) if d in FLOATS else 1.0] if name == "pad" else [])


def indexing(p):
    s = shape(R.choice([None, 1, 2, 3]), (1, 2, 3, 4, 5))
    n = len(s)
    d = R.choice([torch.float32, torch.float32, anything()])
    name = R.choice("gather take_along_dim scatter scatter_add scatter_reduce index_select index_add masked_select masked_scatter index_get index_put nonzero sort argsort topk cumsum cumprod".split())
    if name == "scatter_reduce":
        d = floats()
    x = tensor(p, d, s, R.choice(["normal", "ties", "wild", "half"]) if name in ("sort", "argsort", "topk", "nonzero") else R.choice(["normal", "ties"]))
    a = axis(n)
    size = s[a] if n and -n <= a < n else 1
    if name in ("sort", "argsort"):
        p.do(name, [x], [a, R.random() < 0.5])
    elif name == "topk":
        p.do(name, [x], [R.randint(0, size) + (R.random() < 0.03), a, R.random() < 0.5])
    elif name in ("cumsum", "cumprod"):
        p.do(name, [x], [a])
    elif name == "nonzero":
        p.do(name, [x])
    elif name in ("gather", "take_along_dim", "scatter", "scatter_add", "scatter_reduce"):
        b = [R.randint(1, v) if v else 0 for v in s]
        if n and -n <= a < n:
            b[a] = R.randint(0, 4)
        if name == "take_along_dim":
            b = [R.choice([1, v]) for v in s]
            if n and -n <= a < n:
                b[a] = R.randint(1, 4)
        if R.random() < 0.03 and n:
            b[R.randrange(n)] += 3
        i = index(p, b, size)
        source = [tensor(p, d, b, R.choice(["normal", "ties"]))] if name.startswith("scatter") else []
        p.do(name, [x, i] + source, [a] + ([R.randrange(5), R.random() < 0.5] if name == "scatter_reduce" else []))
    elif name in ("index_select", "index_add"):
        m = R.randint(0, 5)
        i = index(p, [m], size)
        b = list(s)
        if n and -n <= a < n:
            b[a] = m
        p.do(name, [x, i] + ([tensor(p, d, b)] if name == "index_add" else []), [a], [R.choice([1, 1, 2, -1])] if name == "index_add" else [])
    elif name in ("masked_select", "masked_scatter"):
        m = tensor(p, BOOL, broadcast_pair(s)[0])
        p.do(name, [x, m] + ([tensor(p, d, [math.prod(s) + R.randint(0, 2)])] if name == "masked_scatter" else []))
    else:
        used, idx, common = 0, [], R.choice([[], [3], [2, 3], [1], [0]])
        while used < n and len(idx) < 4 and (R.random() < 0.8 or not idx):
            what = R.random()
            if what < 0.25:
                idx.append(-1)
                used += 1
            elif what < 0.45 and used + 1 <= n:
                m = R.randint(1, min(2, n - used))
                mask = values(BOOL, s[used : used + m])
                if any(v != -1 for v in idx):  # a mask beside indices: as many as they broadcast to
                    idx.append(-1)
                    used += 1
                    continue
                idx.append(tensor_of(p, mask))
                common = [int(mask.sum())] if m else common
                used += m
            else:
                idx.append(index(p, [v if R.random() < 0.8 else 1 for v in common], s[used], 0.05, True))
                used += 1
        if n == 0:
            idx = []
        if all(v == -1 for v in idx):
            p.do("contiguous", [x])
            return
        if name == "index_get":
            p.do(name, [x] + idx)
        else:
            try:
                target = list(p.t[x][indices([None if v < 0 else p.t[v] for v in idx])].shape)
            except Exception:
                target = [1]
            target = target[R.randint(0, len(target)) if R.random() < 0.3 else 0 :]
            p.do(name, [x, tensor(p, d, target)] + idx, [R.random() < 0.6])


def creation(p):
    name = R.choice("arange linspace eye full".split())
    d = R.randrange(8)
    if name == "arange":
        a, b, k = R.choice([0, 1, -3, 0.5, 2.5]), R.choice([5, 10, -4, 3.3, 7.9]), R.randrange(6)
        if k < 4:  # integers of fractions are another matter in PyTorch
            p.do(name, [], [k], [a, b, R.choice([1, 2, -1, 0.3, 0.5, -0.7, 0])])
        else:
            p.do(name, [], [k], [int(a), int(b), R.choice([1, 2, -1, 3, -4, 0])])
    elif name == "linspace":
        k = R.randrange(6)
        p.do(name, [], [k, R.choice([0, 1, 2, 3, 7, 20, -1])], [R.uniform(-3, 3) if k < 4 else R.randint(-3, 3), R.choice([4, 10, -2.5 if k < 4 else -2])])
    elif name == "eye":
        p.do(name, [], [d, R.randint(0, 5), R.randint(0, 5)])
    else:
        p.do(name, [], [d] + shape(), [R.choice([0, 1, 2, 7, 255])])


def product(p):
    d = floats()
    b = [R.randint(1, 3) for _ in range(R.randint(0, 2))]
    m, k, n = (R.choice([0, 1, 2, 3, 5, 8, 17]) for _ in range(3))
    name = R.choice("matmul matmul linear linear_transposed bilinear".split())
    if name == "matmul":
        x, y = b + [m, k], broadcast_pair(b)[0] + [k, n]
        if R.random() < 0.1:
            y = [k]
        if R.random() < 0.1:
            x = [k]
        if R.random() < 0.04:
            x[-1] += 1
        p.do(name, [tensor(p, d, x, "normal"), tensor(p, d if R.random() < 0.95 else anything(), y, "normal")])
    elif name == "bilinear":
        m = max(1, m)
        p.do(name, [tensor(p, d, [m, k + 1], "normal"), tensor(p, d, [m, n + 1], "normal"), tensor(p, d, [3, k + 1, n + 1], "normal", layout="plain"), R.choice([-1, tensor(p, d, [3], layout="plain")])])
    else:
        w = [n, k] if name == "linear" else [k, n]
        p.do(name, [tensor(p, d, b + [m, k], "normal"), tensor(p, d, w, "normal"), -1 if R.random() < 0.4 else tensor(p, d, [n], "normal")])


def norm(p):
    d, s = R.choice([torch.float32, torch.float64]), shape(R.randint(2, 4), (1, 2, 3, 4, 6))
    name = R.choice("layer_norm rms_norm group_norm batch_norm batch_norm_running".split())
    x = tensor(p, d, s, "normal", layout=R.choice("plain perm step select".split()))
    c = s[-1] if name in ("layer_norm", "rms_norm") else s[1]
    w, b = (R.choice([-1, tensor(p, d, [c], "normal", layout="plain")]) for _ in range(2))
    if name == "rms_norm":
        p.do(name, [x, w], [], [1e-5])
    elif name == "group_norm":
        p.do(name, [x, w, b], [R.choice([1, c, 2, 3])], [1e-5])
    elif name == "batch_norm_running":
        p.do(name, [x, w, b, p.x(values(torch.float32, [c])), p.x(values(torch.float32, [c], "positive"))], [], [1e-5])
    else:
        p.do(name, [x, w, b], [], [1e-3])


def image(p):
    n = R.randint(1, 3)
    d = R.choice([torch.float32, torch.float32, torch.float64])
    name = R.choice("conv conv_transpose max_pool avg_pool unfold adaptive_max_pool adaptive_avg_pool pad_with upsample pixel_shuffle pixel_unshuffle channel_shuffle".split())
    rnd = lambda lo, hi: [R.randint(lo, hi) for _ in range(n)]
    if name == "unfold":
        n = 2
    size = rnd(1, 7)
    b, c = R.choice([0, 1, 2, 2]), R.choice([1, 2, 4, 6])
    if name in ("conv", "conv_transpose"):
        g = R.choice([1, 1, 2, c])
        g = g if c % g == 0 else 1
        o = g * R.randint(1, 2)
        w = ([o, c // g] if name == "conv" else [c, o // g]) + rnd(1, 3)
        x = [tensor(p, d, [b, c] + size, "normal"), tensor(p, d, w, "normal"), R.choice([-1, tensor(p, d, [o], layout="plain", k="normal")])]
        p.do(name, x, [g] + rnd(1, 3) + rnd(0, 2) + rnd(1, 2) + (rnd(0, 2) if name == "conv_transpose" else [0] * n))
    elif name in ("max_pool", "avg_pool", "unfold"):
        k = rnd(1, 3)
        pad = [R.randint(0, v // 2) for v in k]
        x = tensor(p, d, [b, c] + size, "wild" if name == "max_pool" and R.random() < 0.2 else "normal")
        p.do(name, [x], [R.random() < 0.4 and name != "unfold", R.random() < 0.5 and name == "avg_pool"] + k + rnd(1, 3) + pad + (rnd(1, 2) if name != "avg_pool" else [1] * n))
    elif name.startswith("adaptive"):
        p.do(name, [tensor(p, d, [b, c] + size, "normal")], rnd(1, 5))
    elif name == "pad_with":
        mode = R.randrange(4)
        p.do(name, [tensor(p, d, [max(b, 1), c] + size, "normal")], [mode] + rnd(0, 3) + rnd(0, 3), [1.5])
    elif name == "upsample":
        mode = R.randrange(3)
        if mode == 2:
            n, size = 2, size[:2] + [3] * (2 - len(size))
        by = R.random() < 0.5
        p.do(name, [tensor(p, d, [max(b, 1), c] + size, "normal")], [mode, mode and R.random() < 0.5] + ([] if by else rnd(1, 9)), [R.choice([0.5, 1.5, 2.0, 2.7]) for _ in range(n)] if by else [])
    elif name == "pixel_shuffle":
        p.do(name, [tensor(p, d, [b, 8, 3, 2], "normal")], [R.choice([1, 2, 2, 3])])
    elif name == "pixel_unshuffle":
        p.do(name, [tensor(p, d, [max(b, 1), 2, 4, 6], "normal")], [R.choice([1, 2, 2, 3])])
    else:
        p.do(name, [tensor(p, d, [b, c] + size, "normal")], [R.choice([1, 2, c, 3])])


def sequence(p):
    d = R.choice([torch.float32, torch.float64])
    name = R.choice("embedding embedding_bag cosine_similarity sdpa".split())
    v, c = R.randint(1, 6), R.randint(1, 5)
    if name == "embedding":
        i = index(p, shape(R.randint(0, 3), (0, 1, 2, 3)), v)
        p.do(name, [i, tensor(p, R.choice([d, floats()]), [v, c], "normal")], [R.choice([-1, 0, v - 1])])
    elif name == "embedding_bag":
        i = index(p, [R.randint(1, 3), R.randint(1, 4)], v, dtypes=(torch.int64, torch.int32))
        p.do(name, [i, -1, tensor(p, d, [v, c], "normal")], [R.randrange(3), R.choice([-1, 0])])
    elif name == "cosine_similarity":
        s = shape(R.randint(1, 3), (1, 2, 3, 4))
        p.do(name, [tensor(p, d, s, "normal"), tensor(p, d, s, "normal")], [axis(len(s))], [1e-6])
    else:
        h, g, hd, b, t, s = R.choice([(4, 2), (2, 2), (3, 1), (1, 1)]) + (R.choice([1, 2, 4, 5]), R.randint(1, 2), R.randint(1, 6), R.randint(1, 7))
        x = [tensor(p, d, [b, t, h * hd], "normal"), tensor(p, d, [b, s, g * hd], "normal"), tensor(p, d, [b, s, g * hd], "normal")]
        if R.random() < 0.4:
            x.append(tensor(p, d, R.choice([[t, s], [b, 1, t, s], [b, h, t, s], [1, s]]), "normal", grad=False))
        p.do(name, x, [h, g, R.random() < 0.4, R.choice([0, 0, 1, 3])], [R.choice([0, 0.3])])


def loss(p):
    d = R.choice([torch.float32, torch.float64])
    name = R.choice("pointwise_loss pointwise_loss nll_loss cross_entropy_loss multi_margin_loss multi_label_margin_loss".split())
    if name == "pointwise_loss":
        which, s = R.choice(list(LOSSES)), shape()
        x = tensor(p, d, s, "unit" if which == 4 else R.choice(["normal", "ties"]))
        if which in (4, 5, 6):
            y = tensor(p, d, s, "unit", grad=False)
        elif which in (9, 10):
            y = p.x(torch.tensor([R.choice([-1.0, 1.0]) for _ in range(math.prod(s))], dtype=d).reshape(s))
        else:
            y = tensor(p, d, s, R.choice(["normal", "ties"]))
        p.do(name, [x, y], [which, which == 6 and R.random() < 0.5, R.random() < 0.5], [R.choice([0.5, 1.0, 2.0]), 0, R.choice([1.0, 0.25])])
        return
    n, c = R.choice([0, 1, 3, 5] if name in ("nll_loss", "cross_entropy_loss") else [1, 3, 5]), R.randint(1, 6)
    x = tensor(p, d, [n, c], R.choice(["normal", "ties"]))
    w = R.choice([-1, p.x(values(d, [c], "positive"))]) if name != "multi_label_margin_loss" else -1
    red = R.randrange(3)
    if name == "multi_label_margin_loss":
        y = torch.tensor([[R.randrange(-1, c) for _ in range(c)] for _ in range(n)], dtype=torch.int64).reshape(n, c)
        p.do(name, [x, p.x(y)], [red])
        return
    i = index(p, [n], c, dtypes=(torch.int64, torch.int32))
    if name == "multi_margin_loss":
        p.do(name, [x, i, w], [R.choice([1, 2]), red], [R.choice([1.0, 0.5])])
    else:
        p.do(name, [x, i, w], [R.choice([-100, 0, 1]), red], [R.choice([0.0, 0.1])] if name == "cross_entropy_loss" else [])


def chain(p):
    """Several ops over a pool of tensors: the graph's sums, broadcasts and views."""
    s = shape(R.randint(1, 3), (1, 2, 3, 4))
    d = R.choice([torch.float32, torch.float64, torch.float32])
    pool_ = [tensor(p, d, s, "unit", grad=True), tensor(p, d, broadcast_pair(s)[0], "unit", grad=True)]
    for _ in range(R.randint(2, 8)):
        what, x = R.random(), R.choice(pool_)
        if what < 0.35:
            y = random_view(p, x)
        elif what < 0.6:
            y = p.do(R.choice("exp sigmoid tanh square neg sqrt relu abs contiguous softsign".split()), [x])
        elif what < 0.9:
            other = R.choice(pool_)
            y = p.do(R.choice("add sub mul maximum".split()), [x, other])
        else:
            n = p.t[x].dim()
            y = p.do(R.choice(["sum", "mean", "amax"]), [x], [R.random() < 0.7] + axis_list(n))
        if y is None or len(p.t) > 40:
            return
        pool_ += y
        if R.random() < 0.15 and y and p.t[y[0]].numel():
            p.do("retain_grad", [y[0]])


def inplace(p):
    """Writes into tensors and views of them, between ops that keep them for backward."""
    s = shape(R.randint(1, 3), (1, 2, 3, 4))
    d = R.choice([torch.float32, torch.float32, torch.float64, torch.bfloat16])
    leaf = tensor(p, d, s, "unit", grad=R.random() < 0.7, layout="plain")
    free = tensor(p, d, s, "unit", grad=False, layout="plain")
    pool_ = [leaf, free] + (p.do(R.choice(["square", "neg", "exp", "contiguous"]), [leaf]) or [])
    for _ in range(R.randint(2, 8)):
        what, x = R.random(), R.choice(pool_)
        y = []
        if what < 0.2:
            y = random_view(p, x)
        elif what < 0.4:
            y = p.do(R.choice("exp sigmoid tanh square neg relu".split()), [x])
        elif what < 0.55:
            y = p.do(R.choice("add sub mul div".split()), [x, R.choice(pool_)])
        elif what < 0.6:
            y = p.do("detach", [x])
        elif what < 0.63:
            p.do("grad_mode", [], [R.random() < 0.5])
        else:
            name = R.choice("add_ sub_ mul_ div_ copy_ exp_ relu_ sigmoid_ scale_ clamp_ fill_ zero_ masked_fill_ index_put_ index_add_".split())
            if name in ("add_", "sub_", "mul_", "div_", "copy_"):
                y = p.do(name, [x, R.choice(pool_)])
            elif name == "masked_fill_":
                y = p.do(name, [x, p.x(values(BOOL, p.t[x].shape))], [], [0.5])
            elif name == "index_add_" and p.t[x].dim():
                b = list(p.t[x].shape)
                i = index(p, [2], b[0], 0)
                y = p.do(name, [x, i, tensor(p, d, [2] + b[1:], "unit", layout="plain")], [0], [2])
            elif name == "index_put_" and p.t[x].dim() and p.t[x].shape[0]:
                i = p.x(torch.tensor([R.randrange(p.t[x].shape[0])]))
                y = p.do(name, [x, tensor(p, d, list(p.t[x].shape[1:]), "unit", layout="plain"), i], [R.random() < 0.5])
            elif not name.startswith("index"):
                y = p.do(name, [x], [], {"scale_": [2, 0.5], "clamp_": [0.2, 0.8], "fill_": [0.5]}.get(name, []))
        if y is None or len(p.t) > 40:
            return
        pool_ += y


FAMILIES = dict(unary=unary, binary=binary, with_number=with_number, with_scalars=with_scalars, activation=activation,
                reduction=reduction, view=view, copies=copies, indexing=indexing, creation=creation, product=product,
                norm=norm, image=image, sequence=sequence, loss=loss, chain=chain, inplace=inplace)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--found", action="store_true", help="begin with what was once wrong")
    options = parser.parse_args()
    R.seed(options.seed)
    names = options.families.split(",")
    for number, program in enumerate(FOUND if options.found else []):
        p = Program("found")
        program(p)
        emit(p, f"found.{number}", sys.stdout)
    for number in range(options.count):
        p = Program(names[number % len(names)])
        FAMILIES[p.family](p)
        emit(p, f"{options.seed}.{number}", sys.stdout)


main()
