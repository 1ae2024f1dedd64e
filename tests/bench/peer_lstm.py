# SPDX-License-Identifier: Apache-2.0
"""PyTorch's side of the benchmark lstm: the example word_language_model's LSTM with 10,000 words, batch 20 of 35."""
import torch
import torch.nn as nn
import torch.nn.functional as F

import peer_training

VOCABULARY, BATCH, TIME = 10000, 20, 35


class LstmLm(nn.Module):
    """configs/models/lstm_lm.yaml; every window begins from zero states there and here."""

    def __init__(self, width, layers=2, dropout=0.2):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(VOCABULARY, width)
        self.rnn = nn.LSTM(width, width, layers, dropout=dropout, batch_first=True)
        self.decoder = nn.Linear(width, VOCABULARY)
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, ids):
        return self.decoder(self.drop(self.rnn(self.drop(self.encoder(ids)))[0]))


class Training(peer_training.Training):
    max_norm = 0.25

    def __init__(self, width=512):
        self.model = LstmLm(width)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1, fused=True)
        self.tokens = torch.randint(0, VOCABULARY, (210_000,))

    def batch(self):
        return peer_training.windows(self.tokens, BATCH, TIME)

    def loss(self, x, y):
        return F.cross_entropy(self.model(x).view(-1, VOCABULARY), y.view(-1))
