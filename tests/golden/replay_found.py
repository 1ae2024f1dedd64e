# SPDX-License-Identifier: Apache-2.0
"""Programs for make_replay.py that were once answered wrong."""
import torch


def t(values, dtype=torch.float32):
    return torch.tensor(values, dtype=torch.float64).to(dtype)


def found(name, *xs, i=(), f=(), grad=True):
    """A program of one op."""
    return lambda p: p.do(name, [p.x(x, grad) if isinstance(x, torch.Tensor) else x for x in xs], i, f)


def overlapping(p):
    a = p.do("as_strided", [p.x(torch.arange(20.0), True)], [3, 0, 3, 3, 1, 4, 2, 1])[0]
    p.do("matmul", [a, p.x(torch.arange(24.0).reshape(3, 1, 8), True)])


def constant_factor(p):
    h = p.do("neg", [p.x(t([1, 2, 3]), True)])[0]
    c = p.x(t([4, 5, 6]))
    p.do("mul", [h, c])
    p.do("add_", [h, c])


def circle(p):
    h = p.do("neg", [p.x(t([1, 2, 3]), True)])[0]
    p.do("add_", [h, p.do("div", [p.x(t([4, 5, 6])), h])[0]])
    p.do("narrow", [h], [0, 2, 2])


big = torch.arange(60, dtype=torch.float64).sub(20).mul(0.125)
bf16, f16, u8 = torch.bfloat16, torch.float16, torch.uint8
FOUND = [
    overlapping, constant_factor, circle,
    found("matmul", t([1, 2]), t([[1, 2, 3], [4, 5, 6]])), found("matmul", t([[1, 2, 3], [4, 5, 6]]), t([1, 0, 2])),
    found("matmul", t([1, 2, 3]), t([4, 5, 6])),
    found("linear", t([[1, 2]], bf16), t([[1, 2], [3, 4]], bf16), t([5, 6], bf16)),
    found("permute", t([[1, 2, 3]]), i=[0, -1, 0]), found("narrow", t([1, 2, 3]), i=[0, -2, 2]),
    found("mean", torch.ones(2, 0, 3), i=[0, 1]), found("sum", torch.ones(2, 3), i=[0, 1, -1]),
    found("pow", t([0, 2, -1]), f=[0]), found("atan2", t([0, 1]), t([0, 2])), found("norm", t([0, 4, -9]), i=[0], f=[0.5]),
    found("lerp", t([1e38, 3]), t([1, -2]), f=[1]), found("lerp", t([1, 2.5], f16), t([0.3, 7], f16), f=[0.3]),
    found("addcmul", t([2, 0.1], f16), t([-3.184, 3], f16), t([1.372, 0.7], f16), f=[0.5]),
    found("addcdiv", t([1.1299], f16), t([1.5], f16), t([0.5356], f16), f=[-1.5]),
    found("addcdiv", t([1]), t([1e38]), t([0.1]), f=[0]),
    found("logsumexp", torch.tensor([254, 3, 255], dtype=u8), i=[0]),
    found("power", t([0.736], f16), t([-0.34, 2])), found("fmod", t([1000, 700], bf16), t([3, 7], bf16)),
    found("max", torch.tensor([[True, False], [False, False]]), i=[1, 0]),
    found("glu", big.to(bf16), i=[0]), found("prelu", big.to(f16), t([0.25], f16)),
    found("max_pool", big.to(bf16).reshape(1, 1, 60), i=[0, 0, 3, 2, 1, 2]),
    found("avg_pool", big.to(f16).reshape(1, 1, 60), i=[0, 0, 3, 2, 1, 1]),
    found("conv", big.to(bf16).reshape(1, 1, 3, 4, 5), t([[[[[1, 2], [3, 4]]]]], bf16), -1, i=[1] + [1] * 3 + [0] * 3 + [1] * 3 + [0] * 3),
    found("conv_transpose", big.to(f16).reshape(1, 1, 60), t([[[1, 2, 0.5]]], f16), -1, i=[1, 2, 0, 1, 0]),
    found("upsample", big.to(bf16).reshape(1, 1, 60), i=[1, 0, 90]),
    found("pad_with", big.to(bf16).reshape(1, 1, 60), i=[1, 2, 3], f=[0]),
    found("embedding_bag", torch.tensor([[0, 1], [1, 1]]), -1, t([[1, 2], [3, 4]], f16), i=[0, -1]),
    found("reshape", t([1, 2]), i=[2]), found("max_pool", t([[[2]]]), i=[0, 0, 2, 3, 1, 2]),
    found("number_mul", t([1, 2.5], f16), i=[1, 0, 0], f=[0.1]), found("number_sub", t([1, 2.5], bf16), i=[1, 1, 0], f=[0.3]),
]
