# SPDX-License-Identifier: Apache-2.0
"""PyTorch's side of the benchmark gpt2-124m: nanoGPT's GPT-2 124M at 4 sequences of 64 tokens, AdamW, clipping at 1."""
import torch
import torch.nn as nn
import torch.nn.functional as F

import peer_training

VOCABULARY, CONTEXT, WIDTH, HEADS, LAYERS = 50257, 1024, 768, 12, 12
BATCH, TIME = 4, 64


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1 = nn.LayerNorm(WIDTH)
        self.c_attn = nn.Linear(WIDTH, 3 * WIDTH)
        self.c_proj = nn.Linear(WIDTH, WIDTH)
        self.ln_2 = nn.LayerNorm(WIDTH)
        self.c_fc = nn.Linear(WIDTH, 4 * WIDTH)
        self.c_proj2 = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (u.view(b, t, HEADS, c // HEADS).transpose(1, 2) for u in self.c_attn(self.ln_1(x)).split(c, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).contiguous().view(b, t, c))
        return x + self.c_proj2(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(VOCABULARY, WIDTH)
        self.wpe = nn.Embedding(CONTEXT, WIDTH)
        self.h = nn.ModuleList(Block() for _ in range(LAYERS))
        self.ln_f = nn.LayerNorm(WIDTH)
        self.lm_head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.lm_head.weight = self.wte.weight
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class Training(peer_training.Training):
    """dtype: what autocast computes in; None: no autocast."""

    max_norm = 1.0

    def __init__(self, dtype=None):
        self.dtype = dtype
        self.model = Gpt2()
        assert sum(p.numel() for p in self.model.parameters()) == 124_439_808
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1,
                                           fused=True)
        self.tokens = torch.randint(0, VOCABULARY, (250_257,))

    def batch(self):
        return peer_training.windows(self.tokens, BATCH, TIME)

    def loss(self, x, y):
        with torch.autocast("cpu", self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            return F.cross_entropy(self.model(x).view(-1, VOCABULARY), y.view(-1))
