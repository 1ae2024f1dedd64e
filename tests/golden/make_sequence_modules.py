#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes sequence_modules.safetensors: recurrent layers, attention and transformers against PyTorch; see modules.py.

Needs torch, numpy, safetensors."""
import math
import pathlib

import torch
import torch.nn as nn
import torch.nn.functional as F

from modules import TENSORS, case, to_numpy, write

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
    case("rnn_both", "- rnn: {width: 5, bidirectional: true}", Recurrent("RNN", 6, 5, bidirectional=True), r(3, 5, 6))
    case("lstm_both", "- lstm: {width: 9, depth: 2, bidirectional: true, projection: 4}",
         Recurrent("LSTM", 6, 9, 2, bidirectional=True, proj_size=4), r(3, 5, 6))
    case("gru_both", "- gru: {width: 9, depth: 2, bidirectional: true}", Recurrent("GRU", 6, 9, 2, bidirectional=True),
         r(3, 5, 6))
    case("lstm_lm", "[{embedding: {count: 11, width: 6}}, {lstm: {width: 8, depth: 2}}, {linear: {out: 11}}]",
         nn.Sequential(nn.Embedding(11, 6), Recurrent("LSTM", 6, 8, 2), nn.Linear(8, 11)),
         torch.randint(0, 11, (3, 5)))


def rotate(x, theta, rotated, interleaved=False):
    """x[B,H,T,D], as transformers' Llama (rotate_half) or GPT-J do."""
    t = x.shape[2]
    rates = theta ** (-torch.arange(0, rotated, 2, dtype=torch.float64) / rotated)
    angle = torch.arange(t, dtype=torch.float64)[:, None] * rates
    turned, rest = x[..., :rotated], x[..., rotated:]
    if interleaved:
        a, b = turned[..., 0::2], turned[..., 1::2]
        c, s = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        return torch.cat((torch.stack((a * c - b * s, b * c + a * s), -1).flatten(-2), rest), -1)
    a, b = turned.chunk(2, -1)
    c, s = (f(torch.cat((angle, angle), -1)).to(x.dtype) for f in (torch.cos, torch.sin))
    return torch.cat((turned * c + torch.cat((-b, a), -1) * s, rest), -1)


def slopes(n):
    """ALiBi's, as its authors' code has them."""
    power = 2 ** math.floor(math.log2(n))
    if power == n:
        return [2 ** (-8 * (i + 1) / n) for i in range(n)]
    return slopes(power) + slopes(2 * power)[0::2][:n - power]


class Attention(nn.Module):
    """Attention with options; parts: names of the separate projections, or none for packed ones."""

    def __init__(self, width, heads, key_heads=None, head_width=None, parts=None, bias=True, causal=False, theta=0,
                 fraction=1.0, interleaved=False, alibi=False, window=0, scale=None):
        super().__init__()
        key_heads, head_width = key_heads or heads, head_width or width // heads
        self.heads, self.key_heads, self.head_width, self.parts = heads, key_heads, head_width, parts
        self.causal, self.theta, self.alibi, self.window, self.scale = causal, theta, alibi, window, scale
        self.rotated, self.interleaved = int(fraction * head_width / 2) * 2, interleaved
        q, k = heads * head_width, key_heads * head_width
        if parts is None:
            self.qkv, self.proj = nn.Linear(width, q + 2 * k, bias), nn.Linear(q, width, bias)
            return
        for name, sizes in zip(parts, ((width, q), (width, k), (width, k), (q, width))):
            owner, _, own = name.rpartition(".")
            holder = self
            for word in filter(None, owner.split(".")):
                if not hasattr(holder, word):
                    holder.add_module(word, nn.Module())
                holder = getattr(holder, word)
            holder.add_module(own, nn.Linear(*sizes, bias))

    def forward(self, x):
        b, t, _ = x.shape
        d = self.head_width
        if self.parts is None:
            q, k, v = self.qkv(x).split((self.heads * d, self.key_heads * d, self.key_heads * d), dim=2)
            out = self.proj
        else:
            q, k, v = (self.get_submodule(name)(x) for name in self.parts[:3])
            out = self.get_submodule(self.parts[3])
        q, k, v = (u.view(b, t, -1, d).transpose(1, 2) for u in (q, k, v))
        if self.theta:
            q, k = (rotate(u, self.theta, self.rotated, self.interleaved) for u in (q, k))
        near = torch.arange(t)[:, None] - torch.arange(t)
        mask = torch.zeros(self.heads, t, t, dtype=x.dtype)
        if self.alibi:
            mask = mask - torch.tensor(slopes(self.heads), dtype=x.dtype)[:, None, None] * near.abs()
        hidden = (near < 0) & self.causal
        if self.window:
            hidden = hidden | (near.abs() >= self.window)
        mask = mask.masked_fill(hidden, -math.inf)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale, enable_gqa=True)
        return out(y.transpose(1, 2).reshape(b, t, self.heads * d))


LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj")


def attention():
    x = lambda t=9: r(2, t, 16)
    case("attention_rope", "- attention: {heads: 2, causal: true, rope: {}}", Attention(16, 2, causal=True, theta=1e4), x())
    case("attention_rope_part", "- attention: {heads: 2, causal: true, rope: {theta: 500, fraction: 0.5, interleaved: true}}",
         Attention(16, 2, causal=True, theta=500, fraction=0.5, interleaved=True), x())
    case("attention_grouped",
         "- attention: {heads: 4, kv_heads: 2, names: [q_proj, k_proj, v_proj, o_proj], rope: {theta: 500000}, "
         "causal: true, bias: false}", Attention(16, 4, 2, parts=LLAMA, bias=False, causal=True, theta=5e5), x(21))
    case("attention_grouped_packed", "- attention: {heads: 4, kv_heads: 1, head_width: 6}",
         Attention(16, 4, 1, head_width=6), x())
    case("attention_alibi", "- attention: {heads: 3, alibi: true, causal: true}", Attention(18, 3, causal=True, alibi=True),
         r(2, 9, 18))
    case("attention_alibi_full", "- attention: {heads: 4, alibi: true, scale: 0.3}", Attention(16, 4, alibi=True, scale=0.3),
         x())
    case("attention_window", "- attention: {heads: 2, causal: true, window: 5}", Attention(16, 2, causal=True, window=5),
         x(40))
    case("attention_window_full", "- attention: {heads: 2, window: 3}", Attention(16, 2, window=3), x(20))
    case("attention_names",
         "- attention: {heads: 2, names: [self.query, self.key, self.value, output.dense]}",
         Attention(16, 2, parts=("self.query", "self.key", "self.value", "output.dense")), x())

    class SelfAttention(nn.MultiheadAttention):
        def forward(self, x, causal=False):
            mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype) if self.causal else None
            return super().forward(x, x, x, attn_mask=mask, need_weights=False)[0]

    for name, causal, bias in (("multihead_attention", False, True), ("multihead_attention_causal", True, False)):
        module = SelfAttention(16, 4, batch_first=True, bias=bias)
        module.causal = causal
        case(name, f"- multihead_attention: {{heads: 4, causal: {str(causal).lower()}, bias: {str(bias).lower()}}}",
             module, x())


class GatedMlp(nn.Module):
    def __init__(self, width, hidden, gate, bias=False):
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(width, hidden, bias), nn.Linear(width, hidden, bias)
        self.down_proj, self.gate = nn.Linear(hidden, width, bias), gate

    def forward(self, x):
        return self.down_proj(self.gate(self.gate_proj(x)) * self.up_proj(x))


class Sinusoids(nn.Module):
    """PyTorch's tutorial's PositionalEncoding, without its dropout."""

    def forward(self, x):
        t, width = x.shape[1:]
        position = torch.arange(t, dtype=torch.float64)[:, None]
        rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10000.0) / width))
        table = torch.zeros(t, width, dtype=torch.float64)
        table[:, 0::2] = torch.sin(position * rate)
        table[:, 1::2] = torch.cos(position * rate)
        return x + table.to(x.dtype)


def transformers():
    for gate, function in (("silu", F.silu), ("gelu", F.gelu), ("relu", F.relu), ("sigmoid", torch.sigmoid),
                           ("linear", lambda x: x), ("gelu_tanh", lambda x: F.gelu(x, approximate="tanh"))):
        bias = gate == "gelu"
        case(f"gated_mlp_{gate}", f"- gated_mlp: {{hidden: 12, gate: {gate}, bias: {str(bias).lower()}}}",
             GatedMlp(8, 12, function, bias), r(2, 5, 8))
    case("sinusoidal_positions", "- sinusoidal_positions", Sinusoids(), r(2, 7, 10))
    for name, text, options in (
            ("post_relu", "", {}),
            ("pre_gelu", "activation: gelu, norm_first: true", {"activation": "gelu", "norm_first": True}),
            ("no_bias", "bias: false, epsilon: 1.0e-3", {"bias": False, "layer_norm_eps": 1e-3})):
        case(f"encoder_{name}", f"- transformer_encoder_layer: {{heads: 2, feedforward: 12, dropout: 0{text and ', '}{text}}}",
             nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True, **options), r(3, 6, 8))


class RmsNorm(nn.Module):
    def __init__(self, width, epsilon):
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(width)), epsilon

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon)


class LlamaBlock(nn.Module):
    def __init__(self, width, hidden, heads, key_heads, theta):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = RmsNorm(width, 1e-5), RmsNorm(width, 1e-5)
        self.self_attn = Attention(width, heads, key_heads, parts=LLAMA, bias=False, causal=True, theta=theta)
        self.mlp = GatedMlp(width, hidden, F.silu)

    def forward(self, x):
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """transformers' LlamaForCausalLM: names and arithmetic."""

    def __init__(self, vocabulary, width, hidden, heads, key_heads, layers, theta):
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(vocabulary, width)
        self.model.layers = nn.ModuleList(LlamaBlock(width, hidden, heads, key_heads, theta) for _ in range(layers))
        self.model.norm = RmsNorm(width, 1e-5)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, ids):
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = layer(x)
        return self.lm_head(self.model.norm(x))


def models():
    case("llama", "", Llama(19, 16, 20, 4, 2, 2, 1e4), torch.randint(0, 19, (2, 9)),
         model="file: configs/models/llama.yaml\n"
               "with: {vocabulary: 19, width: 16, hidden: 20, heads: 4, kv_heads: 2, layers: 2}")
    case("bert", "", Bert(19, 12, 16, 4, 20, 2), torch.randint(0, 19, (2, 9)), training=False,
         model="file: configs/models/bert_base.yaml\n"
               "with: {vocabulary: 19, context: 12, width: 16, hidden: 20, heads: 4, layers: 2}")


class BertLayer(nn.Module):
    """transformers' BertLayer: names and arithmetic."""

    def __init__(self, width, heads, hidden):
        super().__init__()
        self.attention = Attention(width, heads, parts=("self.query", "self.key", "self.value", "output.dense"))
        self.attention.output.LayerNorm = nn.LayerNorm(width, 1e-12)
        self.intermediate, self.output = nn.Module(), nn.Module()
        self.intermediate.dense, self.output.dense = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.output.LayerNorm = nn.LayerNorm(width, 1e-12)

    def forward(self, x):
        x = self.attention.output.LayerNorm(x + self.attention(x))
        return self.output.LayerNorm(x + self.output.dense(F.gelu(self.intermediate.dense(x))))


class Bert(nn.Module):
    """transformers' BertModel with its pooler, for data of one segment."""

    def __init__(self, vocabulary, context, width, heads, hidden, layers):
        super().__init__()
        self.embeddings, self.encoder, self.pooler = nn.Module(), nn.Module(), nn.Module()
        self.embeddings.word_embeddings = nn.Embedding(vocabulary, width)
        self.embeddings.position_embeddings = nn.Embedding(context, width)
        self.embeddings.token_type_embeddings = nn.Embedding(2, width)
        self.embeddings.LayerNorm = nn.LayerNorm(width, 1e-12)
        self.encoder.layer = nn.ModuleList(BertLayer(width, heads, hidden) for _ in range(layers))
        self.pooler.dense = nn.Linear(width, width)

    def forward(self, ids):
        x = self.embeddings.word_embeddings(ids) + self.embeddings.position_embeddings.weight[:ids.shape[1]]
        x = self.embeddings.LayerNorm(x + self.embeddings.token_type_embeddings.weight[0])
        for layer in self.encoder.layer:
            x = layer(x)
        return torch.tanh(self.pooler.dense(x[:, 0]))


def interface(name, module, call, **inputs):
    """A case of tests/engine/test_sequence.c: NAME/state.P, NAME/in.X, NAME/y, NAME/dy, NAME/din.X, NAME/grad.P."""
    module = module.float().double()
    for key, value in module.state_dict().items():
        TENSORS[f"{name}/state.{key}"] = to_numpy(value)
    for key, value in inputs.items():
        inputs[key] = value.float().double().requires_grad_(True) if value.is_floating_point() else value
        TENSORS[f"{name}/in.{key}"] = to_numpy(value)
    y = call(module, **inputs)
    dy = r(y.shape).double()
    y.backward(dy)
    TENSORS[f"{name}/y"], TENSORS[f"{name}/dy"] = to_numpy(y), to_numpy(dy)
    for key, value in inputs.items():
        if value.is_floating_point() and value.grad is not None:
            TENSORS[f"{name}/din.{key}"] = to_numpy(value.grad)
    for key, value in module.named_parameters():
        TENSORS[f"{name}/grad.{key}"] = to_numpy(value.grad)


def padding(lengths, n):
    return torch.arange(n)[None] >= lengths[:, None]


def interfaces():
    def cross(module, x, memory, lengths, mask):
        hidden = torch.zeros(padding(lengths, 7).shape, dtype=x.dtype).masked_fill(padding(lengths, 7), -math.inf)
        return module(x, memory, memory, key_padding_mask=hidden, attn_mask=mask.detach(), need_weights=False)[0]

    interface("i_cross", nn.MultiheadAttention(16, 4, batch_first=True), cross, x=r(2, 5, 16), memory=r(2, 7, 16),
              lengths=torch.tensor([7, 3]), mask=r(5, 7))
    interface("i_encoder", nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True),
              lambda module, x, lengths: module(x, src_key_padding_mask=padding(lengths, 6)), x=r(2, 6, 8),
              lengths=torch.tensor([4, 6]))
    for name, options in (("i_decoder", {}), ("i_decoder_pre", {"norm_first": True, "activation": "gelu"})):
        def decode(module, x, memory, lengths):
            mask = nn.Transformer.generate_square_subsequent_mask(5, dtype=x.dtype)
            return module(x, memory, tgt_mask=mask, memory_key_padding_mask=padding(lengths, 7))

        interface(name, nn.TransformerDecoderLayer(8, 2, 12, 0.0, batch_first=True, **options), decode, x=r(2, 5, 8),
                  memory=r(2, 7, 8), lengths=torch.tensor([7, 5]))
    interface("i_lstm", nn.LSTM(6, 9), lambda module, x, h0, c0: module(x, (h0[None], c0[None]))[0], x=r(4, 3, 6),
              h0=r(3, 9), c0=r(3, 9))
    interface("i_lstm_projection", nn.LSTM(6, 9, proj_size=5), lambda module, x, h0, c0: module(x, (h0[None], c0[None]))[0],
              x=r(4, 3, 6), h0=r(3, 5), c0=r(3, 9))
    interface("i_gru", nn.GRU(6, 9), lambda module, x, h0: module(x, h0[None])[0], x=r(4, 3, 6), h0=r(3, 9))


def main():
    recurrent()
    interfaces()
    attention()
    transformers()
    models()
    case("bert_training", "", Bert(19, 12, 16, 4, 20, 2), torch.randint(0, 19, (2, 9)), measured=True,
         model="file: configs/models/bert_base.yaml\n"
               "with: {vocabulary: 19, context: 12, width: 16, hidden: 20, heads: 4, layers: 2, dropout: 0}",
         # A key's bias adds the same number, q·b, to all the scores of a query: softmax takes it away.
         zeros=("encoder.layer.*.attention.self.key.bias",))
    write(pathlib.Path(__file__).with_name("sequence_modules.safetensors"))


if __name__ == "__main__":
    main()
