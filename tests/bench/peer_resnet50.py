# SPDX-License-Identifier: Apache-2.0
"""PyTorch's side of the benchmark resnet50: torchvision's resnet50 at batch 8 of 224 x 224, SGD with momentum."""
import torch
import torch.nn as nn
import torch.nn.functional as F

import peer_training


class Bottleneck(nn.Module):
    def __init__(self, c_in, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or c_in != 4 * width:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, 4 * width, 1, stride, bias=False),
                                            nn.BatchNorm2d(4 * width))

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


def resnet50():
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    c_in = 64
    for stage, count in enumerate((3, 4, 6, 3)):
        for i in range(count):
            layers.append(Bottleneck(c_in, 64 << stage, 2 if stage > 0 and i == 0 else 1))
            c_in = 256 << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000))


class Training(peer_training.Training):
    """is_channels_last: PyTorch's other memory format, for comparison."""

    def __init__(self, is_channels_last=False):
        self.format = torch.channels_last if is_channels_last else torch.contiguous_format
        self.model = resnet50().to(memory_format=self.format)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4,
                                         fused=True)
        self.images = torch.rand(64, 3, 224, 224)
        self.labels = torch.randint(0, 1000, (64,))

    def batch(self):
        index = torch.randint(0, 64, (8,))
        return self.images[index].to(memory_format=self.format), self.labels[index]

    def loss(self, x, y):
        return F.cross_entropy(self.model(x), y)
