# SPDX-License-Identifier: Apache-2.0
"""The models of configs/models/ in PyTorch, their children under the names that the YAML files give them."""
import torch.nn as nn
import torch.nn.functional as F


class Gpt(nn.Module):
    """gpt.yaml: nanoGPT's GPT."""

    def __init__(self, vocabulary, context, width, heads, layers, bias=False):
        super().__init__()
        self.n_heads = heads
        self.wte = nn.Embedding(vocabulary, width)
        self.wpe = nn.Embedding(context, width)

        def block():
            return nn.ModuleDict({
                "attention": nn.ModuleDict({
                    "norm": nn.LayerNorm(width, bias=bias),
                    "heads": nn.ModuleDict({"qkv": nn.Linear(width, 3 * width, bias=bias),
                                            "proj": nn.Linear(width, width, bias=bias)})}),
                "mlp": nn.ModuleDict({"norm": nn.LayerNorm(width, bias=bias),
                                      "fc": nn.Linear(width, 4 * width, bias=bias),
                                      "proj": nn.Linear(4 * width, width, bias=bias)})})

        self.h = nn.ModuleList(block() for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=bias)

    def attention(self, heads, x):
        b, t, c = x.shape
        q, k, v = (u.view(b, t, self.n_heads, c // self.n_heads).transpose(1, 2)
                   for u in heads["qkv"](x).split(c, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return heads["proj"](y.transpose(1, 2).reshape(b, t, c))

    def forward(self, ids):
        x = self.wte(ids) + self.wpe.weight[:ids.shape[1]]
        for block in self.h:
            x = x + self.attention(block["attention"]["heads"], block["attention"]["norm"](x))
            mlp = block["mlp"]
            x = x + mlp["proj"](F.gelu(mlp["fc"](mlp["norm"](x))))
        return F.linear(self.norm(x), self.wte.weight)


class Block(nn.Module):
    """A residual block of torchvision's ResNets: 3x3 3x3, or 1x1 3x3 1x1 with the stride in the 3x3."""

    def __init__(self, c_in, width, stride, is_bottleneck):
        super().__init__()
        c_out = width * (4 if is_bottleneck else 1)
        shapes = ([(c_in, width, 1, 1), (width, width, 3, stride), (width, c_out, 1, 1)] if is_bottleneck
                  else [(c_in, width, 3, stride), (width, width, 3, 1)])
        self.n = len(shapes)
        for i, (a, b, kernel, step) in enumerate(shapes, 1):
            setattr(self, f"conv{i}", nn.Conv2d(a, b, kernel, step, kernel // 2, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(b))
        if stride != 1 or c_in != c_out:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x):
        y = x
        for i in range(1, self.n + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = F.relu(y) if i < self.n else y
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class ResNet(nn.Module):
    """resnet18.yaml, resnet50.yaml: torchvision's, with its names."""

    def __init__(self, depth, classes=1000, width=64, channels=3):
        super().__init__()
        is_bottleneck = depth >= 50
        self.conv1 = nn.Conv2d(channels, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        c_in = width
        for i, n in enumerate({18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}[depth]):
            blocks = []
            for k in range(n):
                blocks.append(Block(c_in, width << i, 2 if k == 0 and i > 0 else 1, is_bottleneck))
                c_in = (width << i) * (4 if is_bottleneck else 1)
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(c_in, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for i in range(1, 5):
            x = getattr(self, f"layer{i}")(x)
        return self.fc(x.mean((2, 3)))


class LstmLm(nn.Module):
    """lstm_lm.yaml: word_language_model's names; every window begins from zero states."""

    def __init__(self, vocabulary, width, layers):
        super().__init__()
        self.encoder = nn.Embedding(vocabulary, width)
        self.rnn = nn.LSTM(width, width, layers, batch_first=True)
        self.decoder = nn.Linear(width, vocabulary)

    def forward(self, ids):
        return self.decoder(self.rnn(self.encoder(ids))[0])


class Gpt2(nn.Module):
    """gpt2.yaml: Hugging Face's GPT2LMHeadModel, with its names and its linear weights stored [in, out]."""

    class Conv1D(nn.Module):
        def __init__(self, n_out, n_in):
            super().__init__()
            self.weight = nn.Parameter(nn.init.normal_(nn.Conv1d(1, 1, 1).weight.new_empty(n_in, n_out), std=0.02))
            self.bias = nn.Parameter(self.weight.new_zeros(n_out))

        def forward(self, x):
            return x @ self.weight + self.bias

    def __init__(self, vocabulary=50257, context=1024, width=768, heads=12, layers=12):
        super().__init__()
        conv = Gpt2.Conv1D
        self.n_heads = heads
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(vocabulary, width), "wpe": nn.Embedding(context, width),
            "h": nn.ModuleList(nn.ModuleDict({
                "ln_1": nn.LayerNorm(width),
                "attn": nn.ModuleDict({"c_attn": conv(3 * width, width), "c_proj": conv(width, width)}),
                "ln_2": nn.LayerNorm(width),
                "mlp": nn.ModuleDict({"c_fc": conv(4 * width, width), "c_proj": conv(width, 4 * width)})})
                for _ in range(layers)),
            "ln_f": nn.LayerNorm(width)})
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight

    def forward(self, ids):
        net = self.transformer
        b, t = ids.shape
        x = net["wte"](ids) + net["wpe"].weight[:t]
        for block in net["h"]:
            q, k, v = (u.view(b, t, self.n_heads, -1).transpose(1, 2)
                       for u in block["attn"]["c_attn"](block["ln_1"](x)).chunk(3, dim=2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, -1)
            x = x + block["attn"]["c_proj"](y)
            mlp = block["mlp"]
            x = x + mlp["c_proj"](F.gelu(mlp["c_fc"](block["ln_2"](x)), approximate="tanh"))
        return self.lm_head(net["ln_f"](x))
