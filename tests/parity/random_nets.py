# SPDX-License-Identifier: Apache-2.0
"""Random small models and their data, as a job has them and as PyTorch computes them."""
import collections
import wave

import numpy as np
import torch
import torch.nn as nn

from random_layers import Residual
from random_losses import N

V, T = 9, 6  # token numbers and tokens of a sample
torch.backends.mha.set_fastpath_enabled(False)  # it leaves out padding, whose loss is counted too

# layers of the job; write(folder, name, inputs, targets): data set of the job
Net = collections.namedtuple("Net", "layers module inputs padding write")


def write_numbers(folder, name, x, y):
    for part, array in (("x", x), ("y", y)):
        np.save(folder / f"{part}.{name}.npy", array.numpy())
    return {"npy": dict(inputs=f"x.{name}.npy", targets=f"y.{name}.npy", tokens=None if x.is_floating_point() else True)}


class Hidden(nn.Module):
    """A layer of tokens that is told which of them are padding."""


class Packed(Hidden):
    def __init__(self, kind):
        super().__init__()
        for name, parameter in kind.named_parameters():
            self.register_parameter(name, parameter)
        self.kind = [kind]  # not a child: the parameters' names are its own

    def forward(self, x, hidden):
        lengths = torch.where(~hidden, torch.arange(1, x.shape[1] + 1), 1).max(1).values
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y = torch.func.functional_call(self.kind[0], dict(self.named_parameters()), (packed,))[0]
        return nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])[0]


class Attention(nn.MultiheadAttention, Hidden):
    def forward(self, x, hidden):
        return super().forward(x, x, x, key_padding_mask=hidden, need_weights=False)[0]


class Mean(Hidden):
    def forward(self, x, hidden):
        kept = (~hidden)[:, :, None].to(x.dtype)
        return (x * kept).sum(1) / kept.sum(1)


class Last(Hidden):
    def forward(self, x, hidden):
        return torch.stack([row[~hide][-1] for row, hide in zip(x, hidden)])


class Tokens(nn.Sequential):
    """Layers behind an embedding; the last may share its weight."""
    padding = None

    def forward(self, x):
        y = x
        for layer in self:
            y = layer(y, x == self.padding) if isinstance(layer, Hidden) else layer(y)
        return y


def tokens_net(r):
    """Logits for each token."""
    width = r.choice([4, 8])
    middle, module = r.choice([
        lambda: ("{lstm: {width: %d}}" % width, Recurrent(nn.LSTM(width, width, batch_first=True))),
        lambda: ("{gru: {width: %d, bidirectional: true}}" % (width // 2),
                 Recurrent(nn.GRU(width, width // 2, batch_first=True, bidirectional=True))),
        lambda: ("{residual: {checkpoint: %s, layers: [layer_norm, {linear: {out: %d}}, gelu]}}" %
                 (r.choice(["true", "false"]), width),
                 Residual(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU()))])()
    embedding, last = nn.Embedding(V, width), nn.Linear(width, V, bias=False)
    is_tied = r.random() < 0.6
    if is_tied:
        last.weight = embedding.weight
    layers = ["{embedding: {name: '0', count: %d, width: %d}}" % (V, width), middle, "layer_norm",
              "{linear: {out: %d, bias: false%s}}" % (V, ", tied: '0'" if is_tied else "")]
    return Net(layers, Tokens(embedding, module, nn.LayerNorm(width), last), torch.randint(0, V, (N, T)), None, write_numbers)


class Recurrent(Packed):
    def forward(self, x, hidden):
        return torch.func.functional_call(self.kind[0], dict(self.named_parameters()), (x,))[0]


def padded_net(r, wide):
    """wide outputs a sample of tokens, some of which are padding."""
    width, lengths = 8, torch.randint(1, T + 1, (N, 1))
    options = dict(batch_first=True, bidirectional=r.random() < 0.5)
    both = ", bidirectional: true" if options["bidirectional"] else ""
    kind = r.choice(["lstm", "gru", "rnn", "attention"])
    middle = "{multihead_attention: {heads: 2}}" if kind == "attention" else "{%s: {width: 4, packed: true%s}}" % (kind, both)
    module = Attention(width, 2, batch_first=True) if kind == "attention" else \
        Packed(getattr(nn, kind.upper())(width, 4, **options))
    made = width if kind == "attention" else 4 * (1 + options["bidirectional"])
    pooled, pool = r.choice([("{mean: {axes: 1, skip_padding: true}}", Mean()),
                             ("{select: {index: -1, skip_padding: true}}", Last())])
    x = torch.where(torch.arange(T) < lengths, torch.randint(1, V, (N, T)), 0)
    net = Tokens(nn.Embedding(V, width), module, pool, nn.Linear(made, wide))
    net.padding = 0
    return Net(["{embedding: {count: %d, width: %d}}" % (V, width), middle, pooled, "{linear: {out: %d}}" % wide], net, x, 0,
               write_numbers)


def plain_net(r, wide):
    """wide outputs a sample of 4 values."""
    p = r.choice([0.0, 0.0, 1.0])
    choices = [(), (("batch_norm1d", nn.BatchNorm1d(7)),), (("layer_norm", nn.LayerNorm(7)),),
               (("{dropout: {p: %s}}" % p, nn.Dropout(p)),),
               (("{residual: [{linear: {out: 7}}, {relu: {}}]}", Residual(nn.Linear(7, 7), nn.ReLU())),)]
    layers = [("{linear: {out: 7}}", nn.Linear(4, 7)), *r.choice(choices), r.choice([("tanh", nn.Tanh()), ("silu", nn.SiLU())]),
              ("{linear: {out: %d}}" % wide, nn.Linear(7, wide))]
    return Net([t for t, _ in layers], nn.Sequential(*(m for _, m in layers)), torch.randn(N, 4), None, write_numbers)


class Positions(nn.Embedding):
    def forward(self, x):
        return x + self.weight


class EncoderLayer(nn.TransformerEncoderLayer, Hidden):
    def forward(self, x, hidden):
        return super().forward(x, src_key_padding_mask=hidden)


class Decoding(nn.Module):
    """A layer of tokens that is told what an encoder made of others."""


class DecoderLayer(nn.TransformerDecoderLayer, Decoding):
    is_causal = True

    def forward(self, x, hidden, memory, memory_hidden):
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1) if self.is_causal else None
        return super().forward(x, memory, later, None, hidden, memory_hidden)


class Cross(nn.MultiheadAttention, Decoding):
    def forward(self, x, hidden, memory, memory_hidden):
        return super().forward(x, memory, memory, key_padding_mask=memory_hidden, need_weights=False)[0]


class CrossResidual(nn.Sequential, Decoding):
    def forward(self, x, *others):
        return x + self[0](x, *others)


class EncoderDecoder(nn.Module):
    """Of tokens [B, source + target]."""

    def __init__(self, n_source, padding, encoder, decoder):
        super().__init__()
        self.n_source, self.padding = n_source, padding
        self.encoder, self.decoder = nn.ModuleList(encoder), nn.ModuleList(decoder)

    def forward(self, x):
        parts = x[:, :self.n_source], x[:, self.n_source:]
        hidden = [None if self.padding is None else part == self.padding for part in parts]
        memory, y = parts
        for layer in self.encoder:
            memory = layer(memory, hidden[0]) if isinstance(layer, Hidden) else layer(memory)
        for layer in self.decoder:
            y = layer(y, hidden[1], memory, hidden[0]) if isinstance(layer, Decoding) else layer(y)
        return y


def filled(r, n_tokens, padding):
    tokens = torch.randint(1, V, (N, n_tokens))
    return tokens if padding is None else torch.where(torch.arange(n_tokens) < torch.randint(1, n_tokens + 1, (N, 1)), tokens, 0)


def transformer_layers(r, kind, width):
    """[(text, module)] of one to two layers, and the norm behind them."""
    norm_first, call, eps = r.random() < 0.5, r.choice(["relu", "gelu"]), r.choice([1e-5, 1e-2])
    causal = r.choice([None, False]) if kind == "decoder" else None
    text = "{transformer_%s_layer: {heads: 2, feedforward: 12, dropout: 0, norm_first: %s, activation: %s, epsilon: %s%s}}" % (
        kind, str(norm_first).lower(), call, eps, ", causal: false" if causal is False else "")
    make = EncoderLayer if kind == "encoder" else DecoderLayer
    found = [(text, make(width, 2, 12, 0.0, call, eps, True, norm_first)) for _ in range(r.randint(1, 2))]
    for _, module in found:
        module.is_causal = causal is not False
    return found + [("layer_norm", nn.LayerNorm(width))]


def encoder_decoder_net(r):
    """Logits for each token of the target, which stands behind the source."""
    width, n_source, padding = 8, r.randint(2, 5), r.choice([None, 0])
    both = [filled(r, n, padding) for n in (n_source, T)]

    def begin(count):
        found = [("{embedding: {count: %d, width: %d}}" % (V, width), nn.Embedding(V, width))]
        return found + [("{position_embedding: {count: %d}}" % count, Positions(count, width))] * (r.random() < 0.5)
    packed = ", packed: true" if padding is not None else ""
    encoder = begin(n_source) + r.choice([
        lambda: transformer_layers(r, "encoder", width),
        lambda: [("{gru: {width: %d%s}}" % (width, packed), (Packed if packed else Recurrent)(nn.GRU(width, width, batch_first=True)))],
        lambda: [("{linear: {out: %d}}" % width, nn.Linear(width, width)), ("gelu", nn.GELU())]])()
    decoder = begin(T) + r.choice([
        lambda: transformer_layers(r, "decoder", width),
        lambda: [("{multihead_attention: {heads: 2, memory: true}}", Cross(width, 2, batch_first=True))],
        lambda: [("{residual: [{multihead_attention: {heads: 2, memory: true}}]}",
                  CrossResidual(Cross(width, 2, batch_first=True))), ("layer_norm", nn.LayerNorm(width))]])()
    parts = ["[" + ", ".join(text for text, _ in part) + "]" for part in (encoder, decoder)]
    layers = ["{encoder_decoder: {source: %d, encoder: %s, decoder: %s}}" % (n_source, *parts), "{linear: {out: %d}}" % V]
    module = EncoderDecoder(n_source, padding, [m for _, m in encoder], [m for _, m in decoder])
    return Net(layers, Tokens(module, nn.Linear(width, V)), torch.cat(both, 1), padding, write_numbers)


class Sounds:
    """N sounds of whole numbers, as files and as the values that are cut from them or filled up with zeroes."""

    def __init__(self, r, length):
        self.width, self.n_channels, self.length = r.choice([1, 2, 3, 4]), r.choice([1, 1, 2]), length
        self.keep, self.class_from = r.choice([None, "start", "middle"]), r.choice([None, "folder", "name"])
        self.rate = r.choice([8000, 16000, 44100])
        top = 2**(8 * self.width - 1)
        shapes = [(r.randint(max(length - 9, 1), length + 9), self.n_channels) for _ in range(N)]
        self.frames = [(torch.rand(shape, dtype=torch.float64) * 2 * top - top).floor().long() for shape in shapes]
        self.inputs = torch.zeros(N, 1, 1, length)
        for row, frames in zip(self.inputs, self.frames):
            values = (frames.double() / top).float().sum(1) / self.n_channels
            n, is_middle = min(len(values), length), self.keep == "middle"
            skip, before = ((len(values) - n) // 2, (length - n) // 2) if is_middle else (0, 0)
            row[0, 0, before:before + n] = values[skip:skip + n]

    def write(self, folder, name, x, y):
        for i, label in enumerate(y.tolist()):
            path = folder / name / (f"c{label}_{i}.wav" if self.class_from == "name" else f"c{label}/{i}.wav")
            path.parent.mkdir(parents=True, exist_ok=True)
            with wave.open(str(path), "wb") as file:
                file.setparams((self.n_channels, self.width, self.rate, 0, "NONE", ""))
                shift = 128 if self.width == 1 else 0  # those of one byte are unsigned
                file.writeframes(b"".join((value + shift).to_bytes(self.width, "little", signed=shift == 0)
                                          for value in self.frames[i].flatten().tolist()))
        return {"wav": dict(path=name, length=self.length, keep=self.keep, class_from=self.class_from)}


def sound_net(r, wide):
    """wide outputs a sound."""
    length = r.choice([16, 24])
    sounds = Sounds(r, length)
    if r.random() < 0.5:
        found = [("flatten", nn.Flatten()), ("{linear: {out: 7}}", nn.Linear(length, 7)), ("tanh", nn.Tanh()),
                 ("{linear: {out: %d}}" % wide, nn.Linear(7, wide))]
    else:
        stride = r.randint(1, 3)
        conv = nn.Conv2d(1, 3, (1, 5), (1, stride), (0, 1))
        found = [("{conv2d: {out: 3, kernel: [1, 5], stride: [1, %d], padding: [0, 1]}}" % stride, conv)]
        found += [("batch_norm2d", nn.BatchNorm2d(3))] * (r.random() < 0.3)
        found += [("relu", nn.ReLU()), ("flatten", nn.Flatten()),
                  ("{linear: {out: %d}}" % wide, nn.Linear(3 * ((length - 3) // stride + 1), wide))]
    return Net([text for text, _ in found], nn.Sequential(*(module for _, module in found)), sounds.inputs, None, sounds.write)
