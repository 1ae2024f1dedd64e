#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tensor.safetensors: what PyTorch computes, prints and promotes. Needs: pip install torch safetensors"""
import itertools
import pathlib

import torch
from safetensors.torch import save_file

here = pathlib.Path(__file__).parent
torch.manual_seed(7)
f32, f64, bf16, f16 = torch.float32, torch.float64, torch.bfloat16, torch.float16
i64, i32, u8, b1 = torch.int64, torch.int32, torch.uint8, torch.bool
dtypes = [f32, f64, bf16, f16, i64, i32, u8, b1]
names = {f32: "f32", f64: "f64", bf16: "bf16", f16: "f16", i64: "i64", i32: "i32", u8: "u8", b1: "bool"}
tensors, strings = {}, {}


def case(name, function, *inputs, grads=True):
    inputs = [x.detach().clone() for x in inputs]
    for i, x in enumerate(inputs):
        tensors[f"{name}.in{i}"] = x.clone().contiguous()
        if grads and x.dtype.is_floating_point:
            x.requires_grad_(True)
    y = function(*inputs)
    y = y if isinstance(y, tuple) else (y,)
    for i, t in enumerate(y):
        tensors[f"{name}.out{i}"] = t.detach().clone().contiguous()
    if y[0].requires_grad:
        dy = torch.randn(y[0].shape, dtype=f64).to(y[0].dtype)
        tensors[f"{name}.dy"] = dy.clone()
        y[0].backward(dy)
        for i, x in enumerate(inputs):
            if x.grad is not None:
                tensors[f"{name}.grad{i}"] = x.grad.clone().contiguous()


def r(*shape, dtype=f32):
    return torch.randn(shape, dtype=f64).to(dtype)


def n(lo, hi, *shape, dtype=i64):
    return torch.randint(lo, hi, shape).to(dtype)


nan, inf = float("nan"), float("inf")
special = torch.tensor([1.5, nan, -inf, inf, -0.0, 2.5, -2.5, 0.5])

# promotion and arithmetic
table = torch.zeros(8, 8, 2, 2, dtype=i64)
for (i, a), (j, b), da, db in itertools.product(enumerate(dtypes), enumerate(dtypes), range(2), range(2)):
    x = torch.ones([3][:da], dtype=a)
    y = torch.ones([3][:db], dtype=b)
    table[i, j, da, db] = dtypes.index(torch.result_type(x, y))
tensors["promotion"] = table
case("add_mixed", torch.add, r(3, 4), n(-5, 5, 4, dtype=i32))
case("add_0d", torch.add, r(3, 4), r(dtype=f64))
case("add_bool", torch.add, n(0, 2, 5, dtype=b1), n(0, 2, 5, dtype=b1))
case("sub_u8", torch.sub, n(0, 255, 6, dtype=u8), n(0, 255, 6, dtype=u8))
case("mul_bf16", torch.mul, r(3, 4, dtype=bf16), r(4, dtype=bf16))
case("mul_bf16_f16", torch.mul, r(5, dtype=bf16), r(5, dtype=f16))
case("mul_i64", torch.mul, torch.tensor([2**40, -3, 7]), torch.tensor([2**30, 5, -1]))
case("div_i32", torch.div, n(-9, 9, 6, dtype=i32), n(1, 5, 6, dtype=i32))
case("div_f32_i64", torch.div, r(2, 3), n(1, 5, 3))
case("number_i32", lambda x: x * 2.5, n(-5, 5, 6, dtype=i32))
case("number_bf16", lambda x: 3 - x, r(6, dtype=bf16))
case("power_i32", torch.pow, torch.tensor([-3, 2, 1, -1, 0], dtype=i32), torch.tensor([3, 5, -2, -3, 0], dtype=i32))
case("power_f32", torch.pow, torch.tensor([0.5, 2.0, 0.0, 3.0]), torch.tensor([2.0, 0.0, 2.0, -1.5]))
case("fmod_i64", torch.fmod, torch.tensor([7, -7, 7, -7]), torch.tensor([3, 3, -3, -3]))
case("remainder_i64", torch.remainder, torch.tensor([7, -7, 7, -7]), torch.tensor([3, 3, -3, -3]))
case("remainder_f32", torch.remainder, torch.tensor([7.5, -7.5, 7.5, -7.5]), torch.tensor([2.0, 2.0, -2.0, -2.0]))
case("atan2_f32", torch.atan2, r(5), r(5))
case("maximum_nan", torch.maximum, special, special.flip(0), grads=False)
case("minimum_ties", torch.minimum, torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 5.0, 2.0]))
for name in "abs sign square floor ceil round trunc".split():
    case(f"{name}_f32", getattr(torch, name), 3 * r(12))
    case(f"{name}_i32", getattr(torch, name), n(-4, 4, 6, dtype=i32))
for name in "sin cos tan exp2 expm1 log1p erf reciprocal rsqrt log2 log10 exp sqrt".split():
    case(f"{name}_f32", getattr(torch, name), r(12).abs() + 0.1)
    case(f"{name}_u8", getattr(torch, name), n(1, 5, 6, dtype=u8))
case("isnan_f32", torch.isnan, special, grads=False)
case("isinf_f32", torch.isinf, special, grads=False)
case("isfinite_f32", torch.isfinite, special, grads=False)
case("round_half", torch.round, torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5]))
case("clamp_f32", lambda x: x.clamp(-0.5, 0.75), r(9))
case("clamp_nan", lambda x: x.clamp(-1, 2), special, grads=False)
case("clamp_i32", lambda x: x.clamp(-1, 1.5), n(-5, 5, 8, dtype=i32))
case("eq_mixed", torch.eq, n(0, 3, 3, 4), n(0, 3, 4, dtype=i32).float())
case("lt_nan", torch.lt, special, special.flip(0), grads=False)
case("ge_u8", torch.ge, n(0, 9, 6, dtype=u8), n(0, 9, 6, dtype=i64))
case("logical_xor_f32", torch.logical_xor, special, n(0, 2, 8, dtype=i32), grads=False)
case("where_mixed", lambda a, b, c: torch.where(c, a, b), r(3, 1), n(0, 9, 4), n(0, 2, 3, 4, dtype=b1))
case("masked_fill", lambda x, m: x.masked_fill(m, -inf), r(3, 4), n(0, 2, 4, dtype=b1))
case("lerp", lambda a, b: torch.lerp(a, b, 0.3), r(5), r(5))
case("addcmul", lambda x, a, b: torch.addcmul(x, a, b, value=0.5), r(5), r(5), r(5))
case("addcdiv", lambda x, a, b: torch.addcdiv(x, a, b, value=0.5), r(5), r(5), r(5).abs() + 1)

# views, joining, indexing
case("select", lambda x: x.select(1, -2), r(3, 4, 2))
case("as_strided", lambda x: x.as_strided((3, 3), (2, 1), 1), r(9))
case("diagonal", lambda x: x.diagonal(1, 0, 2), r(3, 2, 4))
case("movedim", lambda x: x.movedim(0, 2), r(2, 3, 4))
case("flip", lambda x: x.flip(0, 2), r(2, 3, 4))
case("roll", lambda x: x.roll(-2, 1), r(2, 5))
case("repeat", lambda x: x.repeat(2, 1, 3), r(2, 3))
case("pad", lambda x: torch.nn.functional.pad(x, (1, 2, 0, 1), value=1.5), r(2, 3))
case("tril", lambda x: x.tril(-1), r(2, 4, 3))
case("triu", lambda x: x.triu(1), r(3, 5))
case("cat", lambda a, b: torch.cat([a, b], 1), r(2, 3), n(0, 9, 2, 2))
case("cat_many", lambda x: torch.cat(list(x.split(1)) * 7, 0), r(3, 2))
case("stack", lambda a, b: torch.stack([a, b], -1), r(2, 3), r(2, 3))
case("gather", lambda x, i: x.gather(1, i), r(3, 5), n(0, 5, 2, 4))
case("take_along_dim", lambda x, i: torch.take_along_dim(x, i, 1), r(3, 5), n(0, 5, 1, 4))
case("scatter", lambda x, i, s: x.scatter(1, i, s), r(3, 5), torch.tensor([[0, 4], [2, 1], [3, 0]]), r(3, 2))
case("scatter_add", lambda x, i, s: x.scatter_add(0, i, s), r(3, 4), n(0, 3, 6, 4), r(6, 4))
case("index_select", lambda x, i: x.index_select(0, i), r(4, 3), n(0, 4, 6))
case("index_add", lambda x, i, s: x.index_add(1, i, s, alpha=2), r(2, 3, 2), n(0, 3, 5), r(2, 5, 2))
case("masked_select", lambda x, m: x.masked_select(m), r(3, 4), n(0, 2, 3, 1, dtype=b1))
case("nonzero", torch.nonzero, special.reshape(2, 4) * torch.tensor([1.0, 1.0, 1.0, 0.0]), grads=False)
case("sort", lambda x: tuple(x.sort(1)), r(3, 9))
case("sort_nan", lambda x: tuple(x.sort(0, descending=True)), special, grads=False)
case("sort_stable", lambda x: tuple(x.sort(dim=0, stable=True)), n(0, 4, 30, dtype=i32))
case("topk", lambda x: tuple(x.topk(3, 1)), r(3, 9))
case("cumsum", lambda x: x.cumsum(1), r(2, 6))
case("cumsum_bool", lambda x: x.cumsum(0), n(0, 2, 6, dtype=b1))
case("cumprod", lambda x: x.cumprod(1), torch.tensor([[1.0, 2.0, 0.0, 3.0], [2.0, -1.0, 0.5, 3.0], [0.0, 1.0, 0.0, 2.0]]))

# reductions
case("sum_i32", lambda x: x.sum(0), n(-5, 5, 3, 4, dtype=i32))
case("amax", lambda x: x.amax((0, 2)), torch.tensor([[[1.0, 3.0], [2.0, 2.0]], [[3.0, 0.0], [1.0, 2.0]]]))
case("amin_nan", lambda x: x.amin(0), special, grads=False)
case("prod", lambda x: x.prod(1), torch.tensor([[1.0, 2.0, 0.0, 3.0], [2.0, -1.0, 0.5, 3.0], [0.0, 1.0, 0.0, 2.0]]))
case("prod_u8", lambda x: x.prod(0), n(1, 5, 5, dtype=u8))
case("norm_2", lambda x: torch.linalg.vector_norm(x, 2, 1), torch.cat([r(2, 5), torch.zeros(1, 5)]))
case("norm_3", lambda x: torch.linalg.vector_norm(x, 3), r(2, 5))
case("norm_inf", lambda x: torch.linalg.vector_norm(x, inf, 0), r(3, 4))
case("any_f32", lambda x: x.any(0), torch.tensor([[0.0, nan], [0.0, 0.0]]), grads=False)
case("all_i64", lambda x: x.all(1), n(0, 3, 4, 3))
case("argmax", lambda x: x.argmax(1), torch.tensor([[1.0, 5.0, 5.0], [nan, 2.0, nan]]), grads=False)
case("argmin_all", lambda x: x.argmin(), n(-3, 3, 4, 5, dtype=i32))
case("max", lambda x: tuple(x.max(1)), r(3, 6))
case("min_nan", lambda x: tuple(x.min(0)), special, grads=False)
case("var", lambda x: x.var((0, 2), correction=1), r(3, 2, 4))
case("std", lambda x: x.std(1, correction=0, keepdim=True), torch.cat([r(2, 5), torch.ones(1, 5)]))
case("logsumexp", lambda x: x.logsumexp(1), torch.cat([100 * r(2, 5), torch.full((1, 5), -inf)]), grads=False)
case("logsumexp_grad", lambda x: x.logsumexp((0, 1)), 50 * r(3, 4))
case("arange", lambda: torch.arange(1.0, 2.0, 0.3))
case("arange_i64", lambda: torch.arange(10, -3, -4))
case("linspace", lambda: torch.linspace(-1, 2, 7))
case("eye", lambda: torch.eye(2, 3))

# printing
printed = {
    "floats": torch.tensor([[1.5, -2.25, 100.0], [0.125, 3.0, -0.5]]),
    "whole": torch.tensor([[1.0, -2.0], [300.0, 4.0]]),
    "whole_large": torch.tensor([1.0, 12345678.0, 3e9]),
    "scientific": torch.tensor([1e-6, 1.0, 12345.678]),
    "scientific_negative": torch.tensor([[-1e-7, 2.0], [3.5e5, -4.0]]),
    "ratio": torch.tensor([0.001, 1.0, 5.5]),
    "special": special,
    "all_nan": torch.tensor([nan, inf]),
    "zeros": torch.zeros(2, 3),
    "zeros_long": -torch.zeros(2, 30),
    "negative_zero": torch.tensor([-0.0, 1.0]),
    "i64": torch.tensor([[1, -200, 3], [4, 5, 66]]),
    "i32": torch.tensor([1, -2], dtype=i32),
    "u8": torch.tensor([[1, 255], [0, 7]], dtype=u8),
    "bool": torch.tensor([[True, False], [False, False]]),
    "bool_true": torch.tensor([True, True]),
    "bf16": torch.tensor([1.0, -0.33], dtype=bf16),
    "f16": torch.tensor([[65504.0, -1.0]], dtype=f16),
    "f64": torch.tensor([1 / 3, 2 / 3], dtype=f64),
    "scalar": torch.tensor(3.25),
    "scalar_i64": torch.tensor(-7),
    "scalar_bool": torch.tensor(True),
    "scalar_whole": torch.tensor(4.0),
    "scalar_small": torch.tensor(1e-8),
    "nested": torch.arange(24.0).reshape(2, 3, 4) / 4,
    "nested_4d": torch.arange(16).reshape(2, 2, 2, 2),
    "long": torch.arange(40.0) / 8,
    "long_i64": torch.arange(60),
    "summary": torch.arange(2000.0),
    "summary_2d": torch.arange(1200.0).reshape(40, 30) / 7,
    "summary_3d": torch.arange(1200).reshape(10, 12, 10),
    "summary_negative": -torch.arange(1500.0) / 3,
    "empty": torch.zeros(0),
    "empty_2d": torch.zeros(2, 0),
    "empty_i64": torch.zeros(0, dtype=i64),
    "tiny": torch.tensor([1e-40, 1.0]),
    "huge": torch.tensor([1e38, -1e30]),
}
for name, x in printed.items():
    tensors[f"print.{name}"] = x.clone()
    text = repr(x)
    for dtype, ours in names.items():
        text = text.replace(f"dtype={dtype}", f"dtype={ours}")
    strings[f"print.{name}"] = text
# several indices, masks, reductions
mask34 = torch.tensor([[True, False, True, True], [False] * 4, [False, True, False, True]])
case("index_two", lambda x, i, j: x[i, :, j], r(3, 4, 5), n(-3, 3, 2, 1), n(0, 5, 3))
case("index_middle", lambda x, i, j: x[:, i, j], r(2, 3, 4), n(0, 3, 2, 2), n(-4, 4, 2))
case("index_mask", lambda x, m: x[m], r(3, 4, 2), mask34)
case("index_mask_last", lambda x, m: x[:, m], r(2, 3, 4), mask34)
case("index_mask_none", lambda x, m: x[m], r(3, 2), torch.tensor([False] * 3))
case("index_mixed", lambda x, i, m: x[i, :, m], r(3, 2, 4), torch.tensor([2, 0]), torch.tensor([True, False, True, False]))
case("index_i32", lambda x, i: x[i], n(-9, 9, 5, 2, dtype=i32), n(-5, 5, 3, dtype=i32), grads=False)
case("index_put", lambda x, i, v: x.index_put((i,), v), r(5, 3), torch.tensor([1, 3, -1]), r(3))
case("index_put_add", lambda x, i, j, v: x.index_put((i, j), v, accumulate=True), r(3, 4), n(0, 3, 9), n(-4, 4, 9), r(9))
case("index_put_mask", lambda x, m, v: x.index_put((m,), v), r(3, 4, 2), mask34, r(2))
case("index_put_scalar", lambda x, m, v: x.index_put((m,), v), r(3, 4), mask34, r())


def put_middle(x, i, v):
    y = x.clone()
    y[:, i] = v
    return y


case("index_put_middle", put_middle, r(2, 5, 3), torch.tensor([4, 0]), r(2, 1, 3))
case("index_put_bf16", lambda x, i, v: x.index_put((i,), v, accumulate=True), r(3, dtype=bf16), n(0, 3, 5), r(5, dtype=bf16))
case("index_put_i64", lambda x, i, v: x.index_put((i,), v, accumulate=True), n(0, 9, 3), n(0, 3, 5), n(-9, 9, 5), grads=False)
case("masked_scatter", lambda x, m, s: x.masked_scatter(m, s), r(3, 4), mask34, r(2, 4))
case("masked_scatter_row", lambda x, m, s: x.masked_scatter(m, s), r(3, 4), torch.tensor([True, False, False, True]), r(9))
few = torch.tensor([[0, 0, 1, 1, 1, 3], [2, 2, 0, 0, 3, 3]])
tied = torch.tensor([[2.0, 2.0, 0.0, 3.0, -1.0, 0.5], [0.0, 0.0, 1.5, 1.5, 4.0, -2.0]])
base = torch.tensor([[2.0, -1.0, 0.5, 0.0, 1.0], [1.5, 2.5, 0.0, 4.0, -3.0]])
for kind, mine in dict(sum="sum", prod="prod", mean="mean", amax="max", amin="min").items():
    for has_self in (True, False):
        case(f"scatter_{mine}_{'with' if has_self else 'without'}",
             lambda x, i, s: x.scatter_reduce(1, i, s, kind, include_self=has_self),
             base if has_self else base + 0.25, few, tied)  # PyTorch counts a tied x even where it has no part
save_file(tensors, here / "tensor.safetensors", metadata=strings)
