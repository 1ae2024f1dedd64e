#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes sequence_modules.safetensors: recurrent layers, attention and transformers against PyTorch; see modules.py.

Needs torch, numpy, safetensors."""
import pathlib

import torch
import torch.nn as nn

from modules import case, write

torch.manual_seed(20250302)
r = torch.randn


class Recurrent(nn.Module):
    """The outputs of a recurrent module alone; its parameters keep their names."""

    def __new__(cls, kind, *args, **options):
        base = getattr(nn, kind)
        made = type("Outputs", (base,), {"forward": lambda self, x: base.forward(self, x)[0]})
        return made(*args, batch_first=True, **options)


def recurrent():
    case("rnn", "- rnn: {width: 9}", Recurrent("RNN", 6, 9), r(3, 5, 6))
    case("rnn_relu", "- rnn: {width: 9, activation: relu, depth: 2, bias: false}",
         Recurrent("RNN", 6, 9, 2, nonlinearity="relu", bias=False), r(3, 5, 6))
    case("lstm", "- lstm: {width: 20}", Recurrent("LSTM", 6, 20), r(3, 7, 6))
    case("lstm_deep", "- lstm: {width: 9, depth: 3}", Recurrent("LSTM", 6, 9, 3), r(13, 4, 6))
    case("lstm_projection", "- lstm: {width: 9, depth: 2, projection: 4}", Recurrent("LSTM", 6, 9, 2, proj_size=4),
         r(3, 5, 6))
    case("lstm_no_bias", "- lstm: {width: 9, bias: false}", Recurrent("LSTM", 6, 9, bias=False), r(3, 5, 6))
    case("lstm_one_step", "- lstm: {width: 9}", Recurrent("LSTM", 6, 9), r(3, 1, 6))
    case("lstm_dropout_eval", "- lstm: {width: 9, depth: 2, dropout: 0.5}", Recurrent("LSTM", 6, 9, 2, dropout=0.5),
         r(3, 5, 6), training=False)
    case("gru", "- gru: {width: 19}", Recurrent("GRU", 6, 19), r(3, 7, 6))
    case("gru_deep", "- gru: {width: 9, depth: 2, bias: false}", Recurrent("GRU", 6, 9, 2, bias=False), r(3, 5, 6))
    case("lstm_lm", "[{embedding: {count: 11, width: 6}}, {lstm: {width: 8, depth: 2}}, {linear: {out: 11}}]",
         nn.Sequential(nn.Embedding(11, 6), Recurrent("LSTM", 6, 8, 2), nn.Linear(8, 11)),
         torch.randint(0, 11, (3, 5)))


def main():
    recurrent()
    write(pathlib.Path(__file__).with_name("sequence_modules.safetensors"))


if __name__ == "__main__":
    main()
