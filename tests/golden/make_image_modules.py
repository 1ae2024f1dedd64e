#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes image_modules.safetensors: layers for images and general use against PyTorch's modules; see modules.py.

Needs torch, numpy, safetensors."""
import pathlib

import torch
import torch.nn as nn

from modules import case, write

torch.manual_seed(20250301)
r = torch.randn


class Attention(nn.Module):
    """Self-attention with the names of our layer: nn.MultiheadAttention has one matrix for queries, keys and values."""

    def __init__(self, width, heads, causal):
        super().__init__()
        self.qkv, self.proj, self.heads, self.causal = nn.Linear(width, 3 * width), nn.Linear(width, width), heads, causal

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (u.view(b, t, self.heads, -1).transpose(1, 2) for u in self.qkv(x).split(c, dim=2))
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.proj(y.transpose(1, 2).reshape(b, t, c))


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


def base():
    case("linear", "- linear: {out: 7}", nn.Linear(12, 7), r(5, 12))
    case("linear_tokens", "- linear: {out: 7, bias: false}", nn.Linear(12, 7, bias=False), r(2, 3, 12))
    case("conv2d", "- conv2d: {out: 6, kernel: 3, padding: 1}", nn.Conv2d(3, 6, 3, padding=1), r(2, 3, 7, 6))
    case("conv2d_strided", "- conv2d: {out: 6, kernel: [3, 2], stride: [2, 1], padding: [1, 0], dilation: [1, 2], groups: 2}",
         nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 2), 2), r(2, 4, 9, 8))
    case("conv2d_depthwise", "- conv2d: {out: 16, kernel: 3, padding: 1, groups: 16, bias: false}",
         nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), r(2, 16, 6, 5))
    case("max_pool2d", "- max_pool2d: {kernel: 3, stride: 2, padding: 1}", nn.MaxPool2d(3, 2, 1), r(2, 3, 7, 8))
    case("avg_pool2d", "- avg_pool2d: {kernel: [2, 3], stride: 2, padding: [1, 0]}", nn.AvgPool2d((2, 3), 2, (1, 0)),
         r(2, 3, 7, 8))
    case("global_avg_pool2d", "- global_avg_pool2d", nn.AdaptiveAvgPool2d(1), r(2, 3, 5, 6))
    case("batch_norm2d", "- batch_norm2d", nn.BatchNorm2d(5), r(4, 5, 3, 6))
    case("batch_norm2d_eval", "- batch_norm2d: {epsilon: 0.01, momentum: 0.3}", nn.BatchNorm2d(5, 0.01, 0.3), r(4, 5, 3, 6),
         training=False)
    case("layer_norm", "- layer_norm", nn.LayerNorm(20), r(3, 4, 20))
    case("layer_norm_bias", "- layer_norm: {bias: false, epsilon: 1.0e-3}", nn.LayerNorm(20, 1e-3, bias=False), r(6, 20))
    case("embedding", "- embedding: {count: 11, width: 6}", nn.Embedding(11, 6), torch.randint(0, 11, (3, 5)))
    case("attention", "- attention: {heads: 2, causal: true}", Attention(16, 2, True), r(2, 9, 16))
    case("attention_full", "- attention: {heads: 4}", Attention(16, 4, False), r(2, 9, 16))
    case("residual", "- residual: [layer_norm, {linear: {out: 8}}, gelu]",
         nn.Sequential(Residual(nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU())), r(4, 3, 8))
    case("flatten", "[flatten, {linear: {out: 4}}]", nn.Sequential(nn.Flatten(), nn.Linear(24, 4)), r(3, 2, 3, 4))
    for kind, module in (("relu", nn.ReLU()), ("gelu", nn.GELU()), ("tanh", nn.Tanh()), ("sigmoid", nn.Sigmoid()),
                         ("silu", nn.SiLU()), ("gelu: {tanh: true}", nn.GELU(approximate="tanh")),
                         ("dropout: {p: 0.4}", nn.Dropout(0.4))):
        name = kind.replace(": ", "_").translate(str.maketrans("", "", "{}.:"))
        case(name, "- " + kind, module, 3 * r(3, 21), training="dropout" not in kind)


def norms():
    case("rms_norm", "- rms_norm", nn.RMSNorm(37), 2 * r(3, 4, 37))
    case("rms_norm_plain", "- rms_norm: {epsilon: 1.0e-3, weight: false}", nn.RMSNorm(8, 1e-3, elementwise_affine=False),
         r(40, 8))
    case("layer_norm_axes", "- layer_norm: {axes: 2}", nn.LayerNorm((3, 5)), r(4, 2, 3, 5))
    case("group_norm", "- group_norm: {groups: 3}", nn.GroupNorm(3, 12), r(2, 12, 5, 4))
    case("group_norm_flat", "- group_norm: {groups: 2, affine: false, epsilon: 0.1}", nn.GroupNorm(2, 8, 0.1, False), r(3, 8))
    case("instance_norm1d", "- instance_norm", nn.InstanceNorm1d(4), r(2, 4, 9))
    case("instance_norm2d", "- instance_norm: {affine: true}", nn.InstanceNorm2d(4, affine=True), r(2, 4, 3, 5))
    case("instance_norm3d", "- instance_norm", nn.InstanceNorm3d(2), r(2, 2, 3, 2, 5))
    case("batch_norm1d", "- batch_norm1d", nn.BatchNorm1d(70), r(9, 70))
    case("batch_norm1d_eval", "- batch_norm1d", nn.BatchNorm1d(7), r(9, 7), training=False)
    case("batch_norm1d_time", "- batch_norm1d: {momentum: 0.5}", nn.BatchNorm1d(5, momentum=0.5), r(3, 5, 8))
    case("batch_norm3d", "- batch_norm3d", nn.BatchNorm3d(3), r(2, 3, 4, 2, 3))


def activations():
    for kind, module in (
            ("relu6", nn.ReLU6()), ("leaky_relu", nn.LeakyReLU()), ("leaky_relu: {slope: 0.2}", nn.LeakyReLU(0.2)),
            ("elu", nn.ELU()), ("elu: {alpha: 0.5}", nn.ELU(0.5)), ("selu", nn.SELU()), ("celu: {alpha: 0.7}", nn.CELU(0.7)),
            ("hardtanh", nn.Hardtanh()), ("hardtanh: {low: -2, high: 0.5}", nn.Hardtanh(-2, 0.5)),
            ("hardsigmoid", nn.Hardsigmoid()), ("hardswish", nn.Hardswish()), ("softplus", nn.Softplus()),
            ("softplus: {beta: 3, threshold: 2}", nn.Softplus(3, 2)), ("softsign", nn.Softsign()),
            ("softshrink", nn.Softshrink()), ("hardshrink: {width: 1}", nn.Hardshrink(1)), ("tanhshrink", nn.Tanhshrink()),
            ("log_sigmoid", nn.LogSigmoid()), ("mish", nn.Mish()), ("threshold: {threshold: 0.1, value: 2}", nn.Threshold(0.1, 2)),
            ("glu", nn.GLU()), ("softmax", nn.Softmax(-1)), ("log_softmax", nn.LogSoftmax(-1)),
            ("softmin", nn.Softmin(-1))):
        name = "activation_" + "".join(c for c in kind.replace(": ", "_") if c not in "{}.,:")
        case(name.replace(" ", "_"), "- " + kind, module, 4 * r(4, 3, 22))
    case("glu_channels", "- glu: {axis: 1}", nn.GLU(1), r(2, 6, 3, 4))
    case("softmax_channels", "- softmax: {axis: 1}", nn.Softmax(1), r(2, 5, 3, 4))
    case("prelu", "- prelu", nn.PReLU(), r(3, 4, 5))
    case("prelu_channels", "- prelu: {per_channel: true}", nn.PReLU(4), r(3, 4, 5, 2))
    case("prelu_features", "- prelu: {per_channel: true}", nn.PReLU(19), r(5, 19))
    for kind, module, x in (("dropout1d", nn.Dropout1d(), r(2, 3, 4)), ("dropout2d", nn.Dropout2d(), r(2, 3, 4, 2)),
                            ("dropout3d", nn.Dropout3d(), r(2, 3, 4, 2, 2)), ("alpha_dropout", nn.AlphaDropout(), r(2, 3)),
                            ("feature_alpha_dropout", nn.FeatureAlphaDropout(), r(2, 3, 4)), ("drop_path", nn.Identity(), r(4, 3))):
        case(kind + "_eval", "- " + kind, module, x, training=False)


def windows():
    case("conv1d", "- conv1d: {out: 6, kernel: 3, stride: 2, padding: 1, dilation: 2}", nn.Conv1d(4, 6, 3, 2, 1, 2), r(2, 4, 15))
    case("conv1d_groups", "- conv1d: {out: 8, kernel: 5, groups: 4, bias: false}", nn.Conv1d(4, 8, 5, groups=4, bias=False),
         r(2, 4, 11))
    case("conv1d_same", "- conv1d: {out: 3, kernel: 4, same: true}", nn.Conv1d(2, 3, 4, padding="same"), r(2, 2, 9))
    case("conv2d_same", "- conv2d: {out: 3, kernel: [3, 2], dilation: 2, same: true}",
         nn.Conv2d(2, 3, (3, 2), padding="same", dilation=2), r(2, 2, 7, 6))
    case("conv2d_reflect", "- conv2d: {out: 3, kernel: 3, padding: 2, padding_mode: reflect}",
         nn.Conv2d(2, 3, 3, padding=2, padding_mode="reflect"), r(2, 2, 5, 6))
    case("conv2d_circular", "- conv2d: {out: 3, kernel: 3, padding: [1, 2], stride: 2, padding_mode: circular}",
         nn.Conv2d(2, 3, 3, 2, (1, 2), padding_mode="circular"), r(2, 2, 5, 6))
    case("conv3d", "- conv3d: {out: 4, kernel: [2, 3, 3], stride: [1, 2, 1], padding: [0, 1, 1]}",
         nn.Conv3d(3, 4, (2, 3, 3), (1, 2, 1), (0, 1, 1)), r(2, 3, 4, 5, 6))
    case("conv3d_groups", "- conv3d: {out: 4, kernel: 2, groups: 2, padding_mode: replicate, padding: 1, bias: false}",
         nn.Conv3d(2, 4, 2, padding=1, groups=2, bias=False, padding_mode="replicate"), r(1, 2, 3, 4, 3))
    case("conv_transpose1d", "- conv_transpose1d: {out: 5, kernel: 4, stride: 3, padding: 1, output_padding: 2}",
         nn.ConvTranspose1d(3, 5, 4, 3, 1, 2), r(2, 3, 6))
    case("conv_transpose2d", "- conv_transpose2d: {out: 8, kernel: 2, stride: 2}", nn.ConvTranspose2d(16, 8, 2, 2), r(2, 16, 5, 4))
    case("conv_transpose2d_groups",
         "- conv_transpose2d: {out: 6, kernel: [3, 2], stride: [2, 1], padding: [1, 0], output_padding: [1, 0], "
         "dilation: [1, 2], groups: 2, bias: false}",
         nn.ConvTranspose2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 0), 2, False, (1, 2)), r(2, 4, 4, 5))
    case("conv_transpose3d", "- conv_transpose3d: {out: 3, kernel: 2, stride: 2}", nn.ConvTranspose3d(2, 3, 2, 2), r(1, 2, 2, 3, 4))
    case("max_pool1d", "- max_pool1d: {kernel: 3, stride: 2, padding: 1, dilation: 2}", nn.MaxPool1d(3, 2, 1, 2), r(2, 3, 13))
    case("max_pool2d_dilated", "- max_pool2d: {kernel: [3, 2], stride: 1, dilation: [1, 3]}",
         nn.MaxPool2d((3, 2), 1, 0, (1, 3)), r(2, 3, 6, 7))
    case("max_pool2d_ceil", "- max_pool2d: {kernel: 3, stride: 2, round_up: true}", nn.MaxPool2d(3, 2, ceil_mode=True), r(2, 3, 8, 6))
    case("max_pool3d", "- max_pool3d: {kernel: 2}", nn.MaxPool3d(2), r(2, 2, 4, 5, 6))
    case("avg_pool1d", "- avg_pool1d: {kernel: 3, stride: 1, padding: 1}", nn.AvgPool1d(3, 1, 1), r(2, 3, 9))
    case("avg_pool2d_exclude", "- avg_pool2d: {kernel: 3, stride: 2, padding: 1, count_padding: false}",
         nn.AvgPool2d(3, 2, 1, count_include_pad=False), r(2, 3, 6, 7))
    case("avg_pool2d_ceil", "- avg_pool2d: {kernel: 3, stride: 2, padding: 1, round_up: true}",
         nn.AvgPool2d(3, 2, 1, ceil_mode=True), r(2, 3, 6, 8))
    case("avg_pool3d", "- avg_pool3d: {kernel: [2, 3, 2], stride: [2, 1, 2]}", nn.AvgPool3d((2, 3, 2), (2, 1, 2)), r(1, 2, 4, 5, 6))
    case("adaptive_avg_pool1d", "- adaptive_avg_pool: {out: 4}", nn.AdaptiveAvgPool1d(4), r(2, 3, 10))
    case("adaptive_avg_pool2d", "- adaptive_avg_pool: {out: [3, 5]}", nn.AdaptiveAvgPool2d((3, 5)), r(2, 3, 7, 4))
    case("adaptive_max_pool1d", "- adaptive_max_pool: {out: 3}", nn.AdaptiveMaxPool1d(3), r(2, 3, 10))
    case("adaptive_max_pool2d", "- adaptive_max_pool: {out: [3, 2]}", nn.AdaptiveMaxPool2d((3, 2)), r(2, 3, 7, 5))
    case("global_avg_pool", "- global_avg_pool", nn.AdaptiveAvgPool1d(1), r(2, 3, 7))
    case("global_max_pool", "- global_max_pool", nn.AdaptiveMaxPool2d(1), r(2, 3, 4, 5))
    case("pad_constant", "- pad: {padding: [1, 2, 0, 3], value: 0.5}", nn.ConstantPad2d((1, 2, 0, 3), 0.5), r(2, 2, 3, 4))
    case("pad_zero", "- pad: {padding: 2}", nn.ZeroPad2d(2), r(2, 2, 3, 4))
    case("pad_reflect", "- pad: {padding: [3, 1], mode: reflect}", nn.ReflectionPad1d((3, 1)), r(2, 2, 5))
    case("pad_replicate", "- pad: {padding: [3, 1, 0, 2, 1, 1], mode: replicate}", nn.ReplicationPad3d((3, 1, 0, 2, 1, 1)),
         r(1, 2, 2, 3, 4))
    case("pad_circular", "- pad: {padding: [2, 1, 3, 0], mode: circular}", nn.CircularPad2d((2, 1, 3, 0)), r(2, 2, 3, 4))
    case("upsample_nearest", "- upsample: {scale: 2}", nn.Upsample(scale_factor=2), r(2, 2, 3, 4))
    case("upsample_nearest_size", "- upsample: {size: [5, 3]}", nn.Upsample((5, 3)), r(2, 2, 3, 4))
    case("upsample_linear", "- upsample: {scale: 1.7, mode: linear}", nn.Upsample(scale_factor=1.7, mode="linear"), r(2, 2, 7))
    case("upsample_bilinear", "- upsample: {scale: 2, mode: linear}", nn.Upsample(scale_factor=2, mode="bilinear"), r(2, 2, 3, 4))
    case("upsample_bilinear_corners", "- upsample: {scale: 2, mode: linear, align_corners: true}",
         nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), r(2, 2, 3, 4))
    case("upsample_trilinear", "- upsample: {size: [3, 5, 4], mode: linear}", nn.Upsample((3, 5, 4), mode="trilinear"),
         r(1, 2, 2, 3, 4))
    case("upsample_bicubic", "- upsample: {size: [7, 5], mode: cubic}", nn.Upsample((7, 5), mode="bicubic"), r(2, 2, 4, 5))


class Bag(nn.EmbeddingBag):
    """Names as the layer's."""


class Bilinear(nn.Bilinear):
    def forward(self, x):
        return super().forward(x[:, :self.in1_features], x[:, self.in1_features:])


class Cosine(nn.CosineSimilarity):
    def forward(self, x):
        return super().forward(x[:, :1], x[:, 1:])


class Function(nn.Module):
    """What PyTorch has as a tensor's method alone."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def arrangements():
    ids = torch.randint(0, 9, (4, 5))
    case("pixel_shuffle", "- pixel_shuffle: {factor: 2}", nn.PixelShuffle(2), r(2, 8, 3, 2))
    case("pixel_unshuffle", "- pixel_unshuffle: {factor: 3}", nn.PixelUnshuffle(3), r(2, 2, 6, 3))
    case("channel_shuffle", "- channel_shuffle: {groups: 3}", nn.ChannelShuffle(3), r(2, 6, 3, 2))
    case("unfold", "- unfold: {kernel: [3, 2], stride: 2, padding: 1, dilation: [1, 2]}", nn.Unfold((3, 2), (1, 2), 1, 2),
         r(2, 3, 6, 7))
    case("fold", "- fold: {kernel: [3, 2], stride: 2, padding: 1, size: [5, 6]}", nn.Fold((5, 6), (3, 2), 1, 1, 2), r(2, 18, 12))
    case("embedding_bag", "- embedding_bag: {count: 9, width: 6}", Bag(9, 6), ids)
    case("embedding_bag_sum", "- embedding_bag: {count: 9, width: 6, mode: sum, padding: 3}", Bag(9, 6, mode="sum", padding_idx=3), ids)
    case("embedding_bag_max", "- embedding_bag: {count: 9, width: 70, mode: max}", Bag(9, 70, mode="max"), ids)
    case("embedding_padding", "- embedding: {count: 9, width: 6, padding: 2}", nn.Embedding(9, 6, padding_idx=2), ids)
    case("flatten_some", "- flatten: {start: 2, end: 3}", nn.Flatten(2, 3), r(2, 3, 4, 2, 5))
    case("bilinear", "- bilinear: {out: 5, left: 3}", Bilinear(3, 4, 5), r(6, 7))
    case("cosine_similarity", "- cosine_similarity", Cosine(dim=2), r(5, 2, 9))
    case("unflatten", "- unflatten: {axis: 2, sizes: [3, -1]}", nn.Unflatten(2, (3, 4)), r(2, 5, 12))
    case("mean", "- mean: {axes: [3, 1]}", Function(lambda x: x.mean((1, 3))), r(2, 3, 4, 5))
    case("transpose", "- transpose: {axes: [3, 1]}", Function(lambda x: x.transpose(1, 3)), r(2, 3, 4, 5))
    case("batch_norm1d_plain", "- batch_norm1d: {affine: false}", nn.BatchNorm1d(7, affine=False), r(9, 7))
    case("batch_norm2d_plain", "- batch_norm2d: {affine: false}", nn.BatchNorm2d(5, affine=False), r(4, 5, 3, 6))
    case("batch_norm2d_plain_eval", "- batch_norm2d: {affine: false}", nn.BatchNorm2d(5, affine=False), r(4, 5, 3, 6),
         training=False)
    case("batch_norm3d_plain", "- batch_norm3d: {affine: false, momentum: 0.3}", nn.BatchNorm3d(3, momentum=0.3, affine=False),
         r(2, 3, 4, 2, 3))
    for name, affine, training in (("", False, True), ("_affine", True, True), ("_eval", True, False)):
        case("instance_norm_track" + name, f"- instance_norm: {{track: true, momentum: 0.3, affine: {str(affine).lower()}}}",
             nn.InstanceNorm2d(4, momentum=0.3, affine=affine, track_running_stats=True), r(3, 4, 3, 5), training=training)
    case("reshape", "- reshape: {shape: [4, 15]}", Function(lambda x: x.reshape(2, 4, 15)), r(2, 3, 4, 5))


def short():
    """Rounded up, one window may be larger than what it moves over."""
    case("max_pool1d_ceil_short", "- max_pool1d: {kernel: 4, stride: 4, round_up: true}", nn.MaxPool1d(4, 4, ceil_mode=True), r(2, 3, 2))
    case("max_pool2d_ceil_short", "- max_pool2d: {kernel: [4, 2], stride: [2, 1], dilation: [2, 1], padding: [1, 0], round_up: true}",
         nn.MaxPool2d((4, 2), (2, 1), (1, 0), (2, 1), ceil_mode=True), r(2, 3, 4, 3))
    case("avg_pool2d_ceil_short", "- avg_pool2d: {kernel: [3, 4], stride: [4, 4], padding: [1, 0], round_up: true}",
         nn.AvgPool2d((3, 4), 4, (1, 0), ceil_mode=True), r(2, 3, 1, 5))
    case("avg_pool1d_ceil_short", "- avg_pool1d: {kernel: 5, stride: 3, padding: 1, round_up: true, count_padding: false}",
         nn.AvgPool1d(5, 3, 1, True, False), r(2, 3, 1))
    # A factor may leave a size as it is: then PyTorch copies along that axis.
    case("upsample_linear_kept", "- upsample: {scale: 1.3, mode: linear}", nn.Upsample(scale_factor=1.3, mode="linear"), r(2, 2, 3))
    case("upsample_bilinear_kept", "- upsample: {scale: [1.4, 1.4], mode: linear}",
         nn.Upsample(scale_factor=(1.4, 1.4), mode="bilinear"), r(2, 2, 2, 5))
    # Output padding up to the dilation: the outputs past the stride have room for positions that x hasn't.
    case("conv_transpose1d_room", "- conv_transpose1d: {out: 5, kernel: 3, padding: 2, output_padding: 2, dilation: 3}",
         nn.ConvTranspose1d(3, 5, 3, 1, 2, 2, dilation=3), r(2, 3, 6))
    case("conv_transpose2d_room",
         "- conv_transpose2d: {out: 6, kernel: [3, 2], stride: [2, 3], padding: [3, 0], output_padding: [4, 2], "
         "dilation: [5, 1], groups: 2}",
         nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (3, 0), (4, 2), 2, True, (5, 1)), r(2, 4, 4, 5))
    case("conv_transpose3d_room",
         "- conv_transpose3d: {out: 3, kernel: 2, stride: [1, 2, 1], padding: 1, output_padding: [1, 1, 2], dilation: [2, 1, 3], "
         "bias: false}",
         nn.ConvTranspose3d(2, 3, 2, (1, 2, 1), 1, (1, 1, 2), 1, False, (2, 1, 3)), r(1, 2, 2, 3, 4))


def main():
    base()
    norms()
    activations()
    windows()
    arrangements()
    short()
    write(pathlib.Path(__file__).with_name("image_modules.safetensors"))


if __name__ == "__main__":
    main()
