#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes image_models.safetensors: the image models of configs/models/ at toy sizes, against the published networks
written in PyTorch under their published names; see modules.py. Needs torch, numpy, safetensors."""
import pathlib

import torch
import torch.nn as nn
import torch.nn.functional as F

from modules import case, write

torch.manual_seed(20250302)
r = torch.randn


def unit(c_in, c_out, kernel=3, stride=1, groups=1):
    return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
                         nn.BatchNorm2d(c_out), nn.ReLU6())


class Inverted(nn.Module):
    """torchvision's InvertedResidual."""

    def __init__(self, c_in, c_out, stride, expand):
        super().__init__()
        hidden = c_in * expand
        layers = [unit(c_in, hidden, 1)] if expand != 1 else []
        layers += [unit(hidden, hidden, 3, stride, hidden), nn.Conv2d(hidden, c_out, 1, bias=False), nn.BatchNorm2d(c_out)]
        self.conv, self.skips = nn.Sequential(*layers), stride == 1 and c_in == c_out

    def forward(self, x):
        return x + self.conv(x) if self.skips else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, classes, width):
        super().__init__()
        layers, c = [unit(3, width, 3, 2)], width
        for t, factor, n, s in ((1, 0.5, 1, 1), (6, 0.75, 2, 2), (6, 1, 3, 2), (6, 2, 4, 2), (6, 3, 3, 1), (6, 5, 3, 2),
                                (6, 10, 1, 1)):
            for i in range(n):
                layers.append(Inverted(c, int(factor * width), s if i == 0 else 1, t))
                c = int(factor * width)
        layers.append(unit(c, 40 * width, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0), nn.Linear(40 * width, classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class DoubleConv(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.double_conv = nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(),
                                         nn.Conv2d(c_out, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU())

    def forward(self, x):
        return self.double_conv(x)


class Down(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(c_in, c_out))

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.up, self.conv = nn.ConvTranspose2d(c_in, c_in // 2, 2, 2), DoubleConv(c_in, c_out)

    def forward(self, x, skip):
        return self.conv(torch.cat([skip, self.up(x)], 1))


class UNet(nn.Module):
    """milesial/Pytorch-UNet, bilinear=False."""

    def __init__(self, classes, width):
        super().__init__()
        self.inc = DoubleConv(3, width)
        for i in range(4):
            setattr(self, f"down{i + 1}", Down(width << i, width << i + 1))
            setattr(self, f"up{i + 1}", Up(width << 4 - i, width << 3 - i))
        self.outc = nn.Sequential()
        self.outc.conv = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x4 = self.down3(x3)
        x = self.up1(self.down4(x4), x4)
        return self.outc.conv(self.up4(self.up3(self.up2(x, x3), x2), x1))


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.qkv, self.proj, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(x).reshape(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, c))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, 1e-6), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width, 1e-6), nn.Sequential()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x))))


class ViT(nn.Module):
    """timm's VisionTransformer."""

    def __init__(self, classes, side, patch, width, heads, layers):
        super().__init__()
        self.cls_token = nn.Parameter(0.3 * r(1, 1, width))
        self.pos_embed = nn.Parameter(0.3 * r(1, (side // patch) ** 2 + 1, width))
        self.patch_embed = nn.Sequential()
        self.patch_embed.proj = nn.Conv2d(3, width, patch, patch)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width, 1e-6), nn.Linear(width, classes)

    def forward(self, x):
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


def model(name, parameters):
    return f"file: configs/models/{name}.yaml\nwith: {{{parameters}}}"


def main():
    case("mobilenet_v2", None, MobileNetV2(5, 4), r(2, 3, 32, 32), training=False,
         model=model("mobilenet_v2", "classes: 5, width: 4"))
    case("unet", None, UNet(2, 2), r(2, 3, 32, 32), model=model("unet", "classes: 2, width: 2"), measured=True)
    case("vit_s", None, ViT(5, 24, 8, 16, 2, 3), r(2, 3, 24, 24),
         model=model("vit_s", "classes: 5, patch: 8, width: 16, heads: 2, layers: 3"))
    case("mobilenet_v2_training", None, MobileNetV2(5, 4), r(8, 3, 32, 32),
         model=model("mobilenet_v2", "classes: 5, width: 4, dropout: 0"), measured=True,
         # The last batch norm of a block has no activation: its bias, by way of the sums along the skips too, meets only
         # convolutions of 1x1 without a bias, which make a constant of it, and the batch norms after them take that away.
         zeros=("features.1.conv.2.bias", "features.*.conv.3.bias"))
    write(pathlib.Path(__file__).with_name("image_models.safetensors"))


if __name__ == "__main__":
    main()
