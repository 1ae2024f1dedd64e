# SPDX-License-Identifier: Apache-2.0
"""The benchmarks' arithmetic and memory traffic, and the targets: one row a benchmark.

FLOP: of the matrix products of one step (multiplication and addition count as two), forward and backward: a product's
backward is two of its size. Bytes: the least that must go to and from memory in one step when nothing but the
parameters and what the backward needs outlives a cache: parameters are read forward and backward (8 bytes each),
gradients written, read for the norm where they are clipped, and AdamW reads 16 and writes 12 bytes a parameter; what
is kept for the backward is written once and read once, its gradient written once and read once.
"""
from dataclasses import dataclass

ADAMW_BYTES = 28  # a parameter: p, g, m, v read; p, m, v written
SGD_BYTES = 20  # p, g, momentum read; p, momentum written
PLAIN_SGD_BYTES = 12  # p, g read; p written


@dataclass
class Work:
    flop: float
    flop_formula: str
    bytes: float
    bytes_formula: str


@dataclass
class Target:
    ratio: float  # ours / peer, at most
    peers: tuple = ()  # rows that it is for; () all


def gpt(batch, time, width, depth, vocabulary, parameters, clipped=True, value_bytes=4):
    flop = 6 * batch * time * (12 * depth * width**2 + vocabulary * width + depth * time * width)
    kept = batch * time * (16 * depth * width + vocabulary)
    traffic = parameters * (2 * value_bytes + 4 + (4 if clipped else 0) + ADAMW_BYTES) + kept * 4 * value_bytes
    return Work(flop, "6 B T (12 L C^2 + V C + L T C)", traffic,
                f"P ({2 * value_bytes} + 4 + 4 + 28) + {4 * value_bytes} B T (16 L C + V)")


def gpt_parameters(width, depth, vocabulary, context, has_biases):
    """The head is the embedding's; biases of norms and linear layers, or none."""
    block = 12 * width**2 + 2 * width + 11 * width * has_biases
    return depth * block + (vocabulary + context) * width + width * (1 + has_biases)


def convolutions(batch, layers, extra_flop, parameters, optimizer_bytes, name):
    """layers: (c_in, c_out, kernel, side of the output); the first needs no gradient of its input."""
    products = [2 * batch * c_in * c_out * k * k * side**2 for c_in, c_out, k, side in layers]
    flop = 3 * sum(products) - products[0] + 3 * batch * extra_flop
    # a convolution's output and its norm's output are kept
    kept = batch * sum(2 * c_out * side**2 for _, c_out, _, side in layers)
    return Work(flop, "3 sum(2 B Cin Cout K^2 H W) - the first's", parameters * (12 + optimizer_bytes) + 16 * kept,
                f"P (12 + {optimizer_bytes}) + 16 B sum(2 Cout H W); {name}")


def resnet50_layers():
    layers = [(3, 64, 7, 112)]
    c_in, side = 64, 56
    for stage, count in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        for i in range(count):
            stride = 2 if stage > 0 and i == 0 else 1
            layers.append((c_in, width, 1, side))
            side //= stride
            layers += [(width, width, 3, side), (width, 4 * width, 1, side)]
            if i == 0:
                layers.append((c_in, 4 * width, 1, side))
            c_in = 4 * width
    return layers


def lstm(batch, time, width, hidden, depth, vocabulary, parameters):
    weights = sum(4 * hidden * ((width if i == 0 else hidden) + hidden) for i in range(depth))
    flop = 6 * batch * time * (weights + vocabulary * hidden)
    kept = batch * time * (depth * 6 * hidden + width + vocabulary)
    return Work(flop, "6 B T (sum 4 H (I + H) + V H)", parameters * (12 + 4 + PLAIN_SGD_BYTES) + 16 * kept,
                "P (8 + 4 + 4 + 12) + 16 B T (6 L H + I + V)")


LENET = [(1, 32, 3, 28), (32, 64, 3, 14)]
LENET_LINEAR = 2 * (64 * 49 * 128 + 128 * 10)
LENET_PARAMETERS = 1 * 32 * 9 + 32 + 64 + 32 * 64 * 9 + 64 + 128 + 64 * 49 * 128 + 128 + 1290

WORK = {
    "gpt-recipe": gpt(12, 64, 128, 4, 65, gpt_parameters(128, 4, 65, 64, 0)),
    "mnist-cnn": convolutions(64, LENET, LENET_LINEAR, LENET_PARAMETERS, ADAMW_BYTES, "B 64"),
    "gpt2-124m": gpt(4, 64, 768, 12, 50257, 124_439_808),
    "gpt2-124m-bf16": gpt(4, 64, 768, 12, 50257, 124_439_808, value_bytes=2),
    "resnet50": convolutions(8, resnet50_layers(), 2 * 2048 * 1000, 25_557_032, SGD_BYTES, "B 8"),
    "lstm": lstm(20, 35, 512, 512, 2, 10000, 14_452_496),
    "adamw-100m": Work(12e8, "12 P", 100e6 * ADAMW_BYTES, "28 P"),
}

# ours / peer at most; rows of other peers than those named have none
TARGETS = {
    "gpt-recipe": Target(0.5),
    "mnist-cnn": Target(0.6),
    "gpt2-124m": Target(0.9),
    "gpt2-124m-bf16": Target(0.65, ("our f32",)),
    "gpt2-124m-bf16 memory": Target(0.6),
    "resnet50": Target(1.0),
    "lstm": Target(0.8),
    "adamw-100m": Target(0.8),
    "loader": Target(0.6),
    "loader-2": Target(0.6),
}
