# SPDX-License-Identifier: Apache-2.0
"""Random layers: each function draws options of one kind, for an input of shape s with n spatial axes, as the text of a job
and as PyTorch's module. Options near the edge of what is legal are drawn too; PyTorch says, by an error when the module is
made or runs, what is not."""
import functools
import json
import pathlib
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "golden"))
from make_image_modules import Bilinear, Cosine, Function  # noqa: E402
from make_sequence_modules import LLAMA, Attention, GatedMlp, Recurrent, Sinusoids  # noqa: E402
from modules import spread_out  # noqa: E402, F401

COUNT = 11  # of tokens


REFUSALS = (RuntimeError, ValueError, AssertionError, IndexError, TypeError)  # as PyTorch raises them


class Refused(nn.Module):
    """A module that PyTorch doesn't make: its error comes when it is used, so that the job's text exists too."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        raise self.error


def made(kind, *arguments, **options):
    try:
        return kind(*arguments, **options)
    except REFUSALS as error:
        return Refused(error)


def text(kind, **fields):
    """YAML of a layer; fields that are None stay away."""
    fields = {key.rstrip("_"): value for key, value in fields.items() if value is not None}
    body = ", ".join(f"{key}: {json.dumps(value)}" for key, value in fields.items()).replace('"', "")
    return f"{{{kind}: {{{body}}}}}" if fields else kind


def per(r, n, low, high, often=None):
    """One number for all axes or one for each, for the text and for PyTorch; None, and `often`, in half the cases."""
    if often is not None and r.random() < 0.5:
        return None, (often,) * n
    if r.random() < 0.5:
        value = r.randint(low, high)
        return value, (value,) * n
    values = [r.randint(low, high) for _ in range(n)]
    return (values if n > 1 else values[0]), tuple(values)


def maybe(r, values, chance=0.5):
    """(for the text, for PyTorch): values[0] is the default, which may be left unsaid."""
    if r.random() > chance:
        return None, values[0]
    value = r.choice(values)
    return value, value


def divisor(r, n, m=None):
    fit = [d for d in range(1, n + 1) if n % d == 0 and (m is None or m % d == 0)]
    return r.randint(1, 5) if r.random() < 0.04 else r.choice(fit)


MODES = ["zeros", "reflect", "replicate", "circular"]


def conv(r, s, n):
    out = r.choice([1, 2, 3, 4, 6, 8, 17])
    groups = divisor(r, s[1], out)
    kernel, k = per(r, n, 1, 4)
    stride, st = per(r, n, 1, 3, 1)
    dilation, d = per(r, n, 1, 3, 1)
    mode_t, mode = maybe(r, MODES)
    is_same = r.random() < 0.2
    padding, p = (None, "same") if is_same else per(r, n, 0, 3, 0)
    bias_t, bias = maybe(r, [True, False])
    module = made(getattr(nn, f"Conv{n}d"), s[1], out, k, st, p, d, groups, bias, mode)
    return text(f"conv{n}d", out=out, kernel=kernel, stride=stride, padding=padding, dilation=dilation,
                groups=groups if groups > 1 else None, bias=bias_t, padding_mode=mode_t, same=is_same or None), module


def conv_transpose(r, s, n):
    out = r.choice([1, 2, 3, 4, 6, 8, 17])
    groups = divisor(r, s[1], out)
    kernel, k = per(r, n, 1, 4)
    stride, st = per(r, n, 1, 3, 1)
    dilation, d = per(r, n, 1, 3, 1)
    padding, p = per(r, n, 0, 2, 0)
    more, o = per(r, n, 0, 2, 0)
    bias_t, bias = maybe(r, [True, False])
    module = made(getattr(nn, f"ConvTranspose{n}d"), s[1], out, k, st, p, o, groups, bias, d)
    return text(f"conv_transpose{n}d", out=out, kernel=kernel, stride=stride, padding=padding, output_padding=more,
                dilation=dilation, groups=groups if groups > 1 else None, bias=bias_t), module


def max_pool(r, s, n):
    kernel, k = per(r, n, 1, 4)
    stride, st = per(r, n, 1, 4) if r.random() < 0.6 else (None, k)
    padding, p = per(r, n, 0, 2, 0)
    dilation, d = per(r, n, 1, 3, 1)
    if any(step > size for step, size in zip(d, s[2:])):  # of a window without a pixel PyTorch writes to foreign memory
        dilation, d = None, (1,) * n
    up_t, up = maybe(r, [False, True])
    module = getattr(nn, f"MaxPool{n}d")(k, st, p, d, ceil_mode=up)
    return text(f"max_pool{n}d", kernel=kernel, stride=stride, padding=padding, dilation=dilation, round_up=up_t), module


def avg_pool(r, s, n):
    kernel, k = per(r, n, 1, 4)
    stride, st = per(r, n, 1, 4) if r.random() < 0.6 else (None, k)
    padding, p = per(r, n, 0, 2, 0)
    up_t, up = maybe(r, [False, True])
    count_t, count = maybe(r, [True, False])
    module = getattr(nn, f"AvgPool{n}d")(k, st, p, up, count)
    return text(f"avg_pool{n}d", kernel=kernel, stride=stride, padding=padding, round_up=up_t, count_padding=count_t), module


def adaptive(r, s, n):
    kind = r.choice(["avg", "max"])
    out, o = per(r, n, 1, 9)
    module = getattr(nn, f"Adaptive{kind.title()}Pool{n}d")(o)
    return text(f"adaptive_{kind}_pool", out=out), module


def global_pool(r, s, n):
    kind = r.choice(["avg", "max"])
    return f"global_{kind}_pool", getattr(nn, f"Adaptive{kind.title()}Pool{n}d")(1)


def pad(r, s, n):
    mode_t, mode = maybe(r, MODES)
    value_t, value = maybe(r, [0.0, 1.5, -2.0]) if mode == "zeros" else (None, 0.0)
    axes = n if mode != "zeros" else r.randint(1, n)
    padding = r.randint(0, 3) if r.random() < 0.3 else [r.randint(0, 4) for _ in range(2 * axes)]
    full = tuple([padding] * 2 * n if isinstance(padding, int) else padding)
    run = (lambda x: F.pad(x, full, value=value)) if mode == "zeros" else (lambda x: F.pad(x, full, mode=mode))
    return text("pad", padding=padding, mode=mode_t, value=value_t), Function(run)


def upsample(r, s, n):
    kind = r.choice(["nearest", "linear", "cubic"] if n == 2 else ["nearest", "linear"])
    mode = {"nearest": "nearest", "linear": ["linear", "bilinear", "trilinear"][n - 1], "cubic": "bicubic"}[kind]
    corners_t, corners = maybe(r, [False, True]) if kind != "nearest" or r.random() < 0.1 else (None, None)
    if kind == "nearest" and corners is False:
        corners_t = corners = None
    if r.random() < 0.5:
        size, o = per(r, n, 1, 9)
        module = nn.Upsample(o, mode=mode, align_corners=corners)
        return text("upsample", size=size, mode=kind, align_corners=corners_t), module
    scale = r.choice([0.3, 0.5, 1, 1.3, 1.7, 2, 2.5, 3, [r.choice([0.4, 0.7, 1.1, 2, 3]) for _ in range(n)]])
    scale = scale[0] if isinstance(scale, list) and n == 1 else scale
    if kind == "nearest" and n != 2 and any(int(size * f) in (size, 2 * size) and f not in (1, 2) for size, f in
                                            zip(s[2:], scale if isinstance(scale, list) else [scale] * n)):
        scale = 2  # PyTorch's gradient isn't its values' there
    module = nn.Upsample(scale_factor=tuple(scale) if isinstance(scale, list) else float(scale), mode=mode, align_corners=corners)
    return text("upsample", scale=scale, mode=kind, align_corners=corners_t), module


def shuffle(r, s, n):
    if n == 2 and r.random() < 0.6:
        kind = r.choice(["shuffle", "unshuffle"])
        factor = r.randint(1, 3)
        return text(f"pixel_{kind}", factor=factor), getattr(nn, f"Pixel{kind.title()}")(factor)
    groups = divisor(r, s[1])
    return text("channel_shuffle", groups=groups), nn.ChannelShuffle(groups)


def unfold(r, s, n):
    kernel, k = per(r, 2, 1, 3)
    stride, st = per(r, 2, 1, 3, 1)
    padding, p = per(r, 2, 0, 2, 0)
    dilation, d = per(r, 2, 1, 2, 1)
    if r.random() < 0.5:
        return text("unfold", kernel=kernel, stride=stride, padding=padding, dilation=dilation), nn.Unfold(k, d, p, st)
    both = nn.Sequential(nn.Unfold(k, d, p, st), nn.Fold((s[2], s[3]), k, d, p, st))
    fields = dict(kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    return ("{sequential: [" + text("unfold", **fields) + ", " + text("fold", size=[s[2], s[3]], **fields) + "]}"), both


def epsilon(r, default, n=2):
    """n: values that are normalised; of a single one the result is rounding over epsilon."""
    return maybe(r, [default, 1e-3, 0.1, 1e-7]) if n > 1 else (0.1, 0.1)


def batch_norm(r, s, n):
    eps_t, eps = epsilon(r, 1e-5)
    momentum_t, momentum = maybe(r, [0.1, 0.0, 1.0, 0.37])
    affine_t, affine = maybe(r, [True, False])
    module = getattr(nn, f"BatchNorm{max(n, 1)}d")(s[1], eps, momentum, affine)
    return text(f"batch_norm{max(n, 1)}d", epsilon=eps_t, momentum=momentum_t, affine=affine_t), module


def instance_norm(r, s, n):
    eps_t, eps = epsilon(r, 1e-5)
    momentum_t, momentum = maybe(r, [0.1, 0.0, 1.0, 0.37])
    affine_t, affine = maybe(r, [False, True])
    track_t, track = maybe(r, [False, True])
    module = getattr(nn, f"InstanceNorm{n}d")(s[1], eps, momentum, affine, track)
    return text("instance_norm", epsilon=eps_t, momentum=momentum_t, affine=affine_t, track=track_t), module


def group_norm(r, s, n):
    groups = divisor(r, s[1])
    eps_t, eps = epsilon(r, 1e-5, torch.Size(s[1:]).numel() // groups)
    affine_t, affine = maybe(r, [True, False])
    return text("group_norm", groups=groups, epsilon=eps_t, affine=affine_t), made(nn.GroupNorm, groups, s[1], eps, affine)


def layer_norm(r, s, n):
    axes = r.randint(1, len(s) - 1)
    eps_t, eps = epsilon(r, 1e-5, torch.Size(s[-axes:]).numel())
    bias_t, bias = maybe(r, [True, False])
    return text("layer_norm", axes=axes if axes > 1 else None, epsilon=eps_t, bias=bias_t), nn.LayerNorm(s[-axes:], eps, bias=bias)


def rms_norm(r, s, n):
    eps_t, eps = epsilon(r, 1.1920929e-7, s[-1])
    weight_t, weight = maybe(r, [True, False])
    return text("rms_norm", epsilon=eps_t, weight=weight_t), nn.RMSNorm(s[-1], eps, weight)


def activation(r, s, n):
    number = lambda *values: r.choice(values)
    axis = r.choice([-1, *range(1, len(s))])
    a, b = number(0.3, 1, 2.5), number(-1.5, 0, 0.2)
    return r.choice([
        lambda: ("relu", nn.ReLU()), lambda: ("gelu", nn.GELU()), lambda: (text("gelu", tanh=True), nn.GELU("tanh")),
        lambda: ("tanh", nn.Tanh()), lambda: ("sigmoid", nn.Sigmoid()), lambda: ("silu", nn.SiLU()),
        lambda: ("relu6", nn.ReLU6()), lambda: (text("leaky_relu", slope=b), nn.LeakyReLU(b)),
        lambda: (text("elu", alpha=a), nn.ELU(a)), lambda: ("selu", nn.SELU()), lambda: (text("celu", alpha=a), nn.CELU(a)),
        lambda: (text("hardtanh", low=b, high=b + a), nn.Hardtanh(b, b + a)), lambda: ("hardsigmoid", nn.Hardsigmoid()),
        lambda: ("hardswish", nn.Hardswish()), lambda: (text("softplus", beta=a, threshold=abs(b)), nn.Softplus(a, abs(b))),
        lambda: ("softsign", nn.Softsign()), lambda: (text("softshrink", width=a), nn.Softshrink(a)),
        lambda: (text("hardshrink", width=abs(b)), nn.Hardshrink(abs(b))), lambda: ("tanhshrink", nn.Tanhshrink()),
        lambda: ("log_sigmoid", nn.LogSigmoid()), lambda: ("mish", nn.Mish()),
        lambda: (text("threshold", threshold=b, value=a), nn.Threshold(b, a)),
        lambda: (text("glu", axis=axis), nn.GLU(axis)), lambda: (text("softmax", axis=axis), nn.Softmax(axis)),
        lambda: (text("log_softmax", axis=axis), nn.LogSoftmax(axis)), lambda: (text("softmin", axis=axis), nn.Softmin(axis)),
        lambda: (text("prelu", slope=b), nn.PReLU()), lambda: (text("prelu", per_channel=True), nn.PReLU(s[1])),
        lambda: (text("dropout", p=0.0), nn.Dropout(0.0)),
    ])()


def arrange(r, s, n):
    axes = r.sample(range(1, len(s)), min(2, len(s) - 1))
    numel = torch.Size(s[1:]).numel()
    some = sorted(r.sample(range(1, len(s)), r.randint(1, len(s) - 1)))
    part = divisor(r, s[1])
    choices = [
        lambda: ("flatten", nn.Flatten()),
        lambda: (text("flatten", start=min(axes), end=max(axes)), nn.Flatten(min(axes), max(axes))),
        lambda: (text("unflatten", axis=1, sizes=[part, -1]), nn.Unflatten(1, (part, -1))),
        lambda: (text("reshape", shape=[part, -1]), Function(lambda x: x.reshape(len(x), part, numel // part))),
        lambda: ("identity", nn.Identity())]
    if len(s) > 2:
        choices += [lambda: (text("transpose", axes=axes), Function(lambda x: x.transpose(*axes))),
                    lambda: (text("mean", axes=some), Function(lambda x: x.mean(some)))]
    if len(s) == 3:
        at = r.randint(-s[1], s[1])
        choices += [lambda: (text("select", index=at), Function(lambda x: x[:, at]))]
        if s[1] == 2:
            choices += [lambda: ("cosine_similarity", Cosine(dim=2))] * 2
    if len(s) == 4:
        choices += [lambda: ("tokens", Function(lambda x: x.flatten(2).transpose(1, 2)))]
    return r.choice(choices)()


def linear(r, s, n):
    out = r.choice([1, 2, 3, 5, 8, 16, 33])
    bias_t, bias = maybe(r, [True, False])
    if len(s) == 2 and s[1] > 1 and r.random() < 0.3:
        left = r.randint(1, s[1] - 1)
        return text("bilinear", out=out, left=left, bias=bias_t), Bilinear(left, s[1] - left, out, bias)
    return text("linear", out=out, bias=bias_t), nn.Linear(s[-1], out, bias)


def recurrent(r, s, n):
    kind = r.choice(["rnn", "lstm", "gru"])
    width, depth = r.choice([1, 2, 5, 8, 9, 16, 17]), r.choice([1, 1, 2, 3])
    both_t, both = maybe(r, [False, True])
    bias_t, bias = maybe(r, [True, False])
    options = dict(bias=bias, bidirectional=both)
    extra = {}
    if kind == "rnn" and r.random() < 0.5:
        extra["activation"] = options["nonlinearity"] = r.choice(["relu", "tanh"])
    if kind == "lstm" and r.random() < 0.4:
        extra["projection"] = options["proj_size"] = r.randint(1, width)
    return text(kind, width=width, depth=depth if depth > 1 else None, bidirectional=both_t, bias=bias_t, **extra), \
        made(Recurrent, kind.upper(), s[2], width, depth, **options)


def attention(r, s, n):
    heads = divisor(r, s[2])
    head_width = r.choice([None, None, 1, 2, 3, 6, 8])
    heads = 1 if s[2] % heads != 0 and head_width is None else heads
    kv = r.choice([None, 1, divisor(r, heads)])
    names = list(LLAMA) if r.random() < 0.5 else None
    bias_t, bias = maybe(r, [True, False])
    causal_t, causal = maybe(r, [False, True])
    alibi_t, alibi = maybe(r, [False, True], 0.3)
    window, scale = r.choice([None, None, 1, 2, 5]), r.choice([None, None, 0.3, 2.0])
    width = head_width or s[2] // heads
    rope, options = None, {}
    if width >= 2 and r.random() < 0.4:
        fraction = r.choice([1.0, 0.5]) if width >= 4 else 1.0
        rope = {"theta": r.choice([100, 10000]), "fraction": fraction, "interleaved": r.random() < 0.5}
        options = dict(theta=rope["theta"], fraction=fraction, interleaved=rope["interleaved"])
    module = made(Attention, s[2], heads, kv, head_width, names, bias, causal,
                  alibi=alibi, window=window or 0, scale=scale, **options)
    return text("attention", heads=heads, kv_heads=kv, head_width=head_width, names=names, bias=bias_t, causal=causal_t,
                alibi=alibi_t, window=window, scale=scale, rope=rope), module


class SelfAttention(nn.MultiheadAttention):
    is_causal = False

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype) if self.is_causal else None
        return super().forward(x, x, x, attn_mask=mask, need_weights=False)[0]


class Encoder(nn.TransformerEncoderLayer):
    is_causal = False

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype) if self.is_causal else None
        return super().forward(x, src_mask=mask)


def transformer(r, s, n):
    heads = divisor(r, s[2])
    causal_t, causal = maybe(r, [False, True])
    bias_t, bias = maybe(r, [True, False])
    which = r.random()
    if which < 0.35:
        module = made(SelfAttention, s[2], heads, bias=bias, batch_first=True)
        module.is_causal = causal
        return text("multihead_attention", heads=heads, causal=causal_t, bias=bias_t), module
    if which < 0.75 and s[2] > 1:
        hidden, eps = r.choice([1, 7, 16]), r.choice([1e-5, 1e-3])
        f_t, f = maybe(r, ["relu", "gelu", "gelu_tanh", "silu"])
        first_t, first = maybe(r, [False, True])
        call = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh")}[f]
        module = made(Encoder, s[2], heads, hidden, 0.0, call, eps, True, first, bias)
        module.is_causal = causal
        return text("transformer_encoder_layer", heads=heads, feedforward=hidden, dropout=0.0, activation=f_t, epsilon=eps,
                    norm_first=first_t, bias=bias_t, causal=causal_t), module
    if which < 0.9 or s[2] % 2:
        gate = r.choice(["silu", "gelu", "gelu_tanh", "relu", "sigmoid", "linear"])
        call = {"silu": F.silu, "gelu": F.gelu, "relu": F.relu, "sigmoid": torch.sigmoid, "linear": lambda x: x,
                "gelu_tanh": lambda x: F.gelu(x, approximate="tanh")}[gate]
        hidden, bias = r.choice([1, 5, 16]), r.random() < 0.5
        return text("gated_mlp", hidden=hidden, gate=gate, bias=bias), GatedMlp(s[2], hidden, call, bias)
    return "sinusoidal_positions", Sinusoids()


def embedding(r, s, n):
    count, width = COUNT, r.choice([1, 2, 5, 8, 16, 19])
    padding = r.randint(0, count - 1) if r.random() < 0.5 else None
    if r.random() < 0.5:
        mode_t, mode = maybe(r, ["mean", "sum", "max"], 0.8)
        return text("embedding_bag", count=count, width=width, mode=mode_t, padding=padding), \
            nn.EmbeddingBag(count, width, mode=mode, padding_idx=padding)
    return text("embedding", count=count, width=width, padding=padding), nn.Embedding(count, width, padding)


class Residual(nn.Sequential):
    def forward(self, x):
        y = super().forward(x)
        if y.shape != x.shape:
            raise ValueError("a residual's shape changes")
        return x + y


class Branches(nn.Module):
    def __init__(self, modules, combine, axis):
        super().__init__()
        for i, module in enumerate(modules):
            self.add_module(str(i), nn.Sequential(module))
        self.combine, self.axis = combine, axis

    def forward(self, x):
        parts = [module(x) for module in self.children()]
        if any(p.dim() <= self.axis for p in parts) or self.combine != "concat" and len({p.shape for p in parts}) > 1:
            raise ValueError("shapes of branches")
        return torch.cat(parts, self.axis) if self.combine == "concat" else \
            functools.reduce(torch.add if self.combine == "add" else torch.mul, parts)


def composite(r, s, n):
    layers = [layer(r, s) for _ in range(r.randint(1, 2))]
    if r.random() < 0.5:
        return "{residual: [" + ", ".join(t for t, _ in layers[:1]) + "]}", Residual(layers[0][1])
    combine, axis = r.choice(["concat", "add", "multiply"]), r.randint(1, len(s) - 1)
    branches = ", ".join("{layers: [" + t + "]}" for t, _ in layers)
    return f"{{parallel: {{combine: {combine}, axis: {axis}, branches: [{branches}]}}}}", \
        Branches([m for _, m in layers], combine, axis)


SPATIAL = [conv, conv, conv_transpose, conv_transpose, max_pool, avg_pool, adaptive, global_pool, pad, upsample, shuffle,
           batch_norm, instance_norm, group_norm]
ANY = [layer_norm, rms_norm, activation, activation, arrange, composite]
FLAT = [linear, linear, batch_norm, group_norm] + ANY
SEQUENCE = [linear, recurrent, recurrent, attention, attention, transformer, transformer] + ANY


def layer(r, s):
    """A layer for an input of the shape, or for tokens where there is none."""
    if s is None:
        return embedding(r, s, 0)
    if len(s) == 2:
        return r.choice(FLAT)(r, s, 0)
    if len(s) == 3 and r.random() < 0.5:
        return r.choice(SEQUENCE)(r, s, 1)
    if len(s) > 5:
        return r.choice(ANY)(r, s, 0)
    return r.choice(SPATIAL + ANY + ([unfold] if len(s) == 4 else []))(r, s, len(s) - 2)
