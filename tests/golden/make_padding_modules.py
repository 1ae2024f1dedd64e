#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes padding_modules.safetensors: models whose samples are filled up with a padding token, encoders with decoders,
scaled rotary positions and the rarer activations, against PyTorch and transformers; see modules.py.

Needs torch, numpy, safetensors, transformers."""
import pathlib

import torch
import torch.nn as nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from modules import case, write

torch.manual_seed(20251125)

PADDING = 0
VOCABULARY = 11


def ids(*rows):
    """Rows of token numbers, filled up with padding."""
    length = max(len(row) for row in rows)
    return torch.tensor([list(row) + [PADDING] * (length - len(row)) for row in rows])


BEHIND = ids([3, 5, 1, 9, 10, 2, 4], [7, 2, 2], [8])
INSIDE = ids([3, 0, 1, 9, 0, 2, 4], [0, 0, 2, 5, 5], [6, 8, 1, 2, 3, 4, 5])


class MultiheadAttention(nn.MultiheadAttention):
    def forward(self, x, hidden):
        t = x.shape[1]
        mask = torch.ones(t, t, dtype=torch.bool).triu(1) if self.causal else None
        return super().forward(x, x, x, key_padding_mask=hidden, attn_mask=mask, need_weights=False)[0]


class EncoderLayer(nn.TransformerEncoderLayer):
    def forward(self, x, hidden):
        return super().forward(x, src_key_padding_mask=hidden)


class Grouped(nn.Module):
    """Grouped-query attention with separate projections and a key padding mask."""

    def __init__(self, width, heads, key_heads):
        super().__init__()
        d = width // heads
        self.q_proj, self.o_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.k_proj, self.v_proj = nn.Linear(width, key_heads * d), nn.Linear(width, key_heads * d)
        self.heads, self.width = heads, width

    def forward(self, x, hidden):
        b, t, _ = x.shape
        q, k, v = (p(x).view(b, t, -1, self.width // self.heads).transpose(1, 2)
                   for p in (self.q_proj, self.k_proj, self.v_proj))
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=~hidden[:, None, None, :], enable_gqa=True)
        return self.o_proj(y.transpose(1, 2).reshape(b, t, -1))


class Packed(nn.Module):
    """The outputs of a packed recurrent module; its parameters keep their names."""

    def __new__(cls, kind, *args, **options):
        base = getattr(nn, kind)

        def forward(self, x, hidden):
            lengths = (~hidden).sum(1)
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return nn.utils.rnn.pad_packed_sequence(base.forward(self, packed)[0], batch_first=True,
                                                    total_length=x.shape[1])[0]

        return type("Outputs", (base,), {"forward": forward})(*args, batch_first=True, **options)


class Mean(nn.Module):
    def forward(self, x, hidden):
        kept = (~hidden)[:, :, None].to(x.dtype)
        return (x * kept).sum(1) / kept.sum(1)


class Last(nn.Module):
    def forward(self, x, hidden):
        return torch.stack([row[~hide][-1] for row, hide in zip(x, hidden)])


class Qkv(nn.Module):
    """attend: attention of what a linear layer gives."""

    def __init__(self, heads):
        super().__init__()
        self.heads = heads

    def forward(self, x, hidden):
        b, t, width = x.shape
        q, k, v = (part.view(b, t, self.heads, -1).transpose(1, 2) for part in x.chunk(3, 2))
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=~hidden[:, None, None, :])
        return y.transpose(1, 2).reshape(b, t, width // 3)


class Plain(nn.Module):
    """A layer that padding is nothing to."""

    def __new__(cls, kind, *args, **options):
        base = getattr(nn, kind)
        return type("Plain", (base,), {"forward": lambda self, x, hidden: base.forward(self, x)})(*args, **options)


class Padded(nn.Sequential):
    """An embedding and layers that know what is padding."""

    def forward(self, x):
        hidden = x == PADDING
        y = self[0](x)
        for layer in self[1:]:
            y = layer(y, hidden)
        return y


def padded(name, layers, x, *modules, width=8):
    case(name, "", Padded(nn.Embedding(VOCABULARY, width), *modules), x,
         model=f"padding: {PADDING}\nlayers:\n- embedding: {{count: {VOCABULARY}, width: {width}}}\n{layers}")


def multihead(causal=False, bias=True):
    module = MultiheadAttention(8, 2, batch_first=True, bias=bias)
    module.causal = causal
    return module


def paddings():
    for place, x in (("behind", BEHIND), ("inside", INSIDE)):
        padded(f"padding_attention_{place}", "- multihead_attention: {heads: 2}", x, multihead())
        padded(f"padding_encoder_{place}",
               "- transformer_encoder_layer: {heads: 2, feedforward: 12, dropout: 0}\n"
               "- transformer_encoder_layer: {heads: 2, feedforward: 12, dropout: 0, norm_first: true, activation: gelu}",
               x, EncoderLayer(8, 2, 12, 0.0, batch_first=True),
               EncoderLayer(8, 2, 12, 0.0, batch_first=True, norm_first=True, activation="gelu"))
        padded(f"padding_attend_{place}", "- linear: {out: 24}\n- attend: {heads: 2}", x, Plain("Linear", 8, 24), Qkv(2))
        padded(f"padding_mean_{place}", "- mean: {axes: [1], skip_padding: true}", x, Mean())
        padded(f"padding_last_{place}", "- select: {index: -1, skip_padding: true}", x, Last())
    padded("padding_attention_causal", "- multihead_attention: {heads: 2, causal: true, bias: false}", BEHIND,
           multihead(True, False))
    padded("padding_attention_none", "- multihead_attention: {heads: 2}", ids([1, 2, 3], [4, 5, 6]), multihead())
    padded("padding_attention_grouped",
           "- attention: {heads: 4, kv_heads: 2, names: [q_proj, k_proj, v_proj, o_proj]}", INSIDE, Grouped(16, 4, 2),
           width=16)
    padded("padding_lstm", "- lstm: {width: 6, packed: true}", BEHIND, Packed("LSTM", 8, 6))
    padded("padding_lstm_both", "- lstm: {width: 6, depth: 2, bidirectional: true, packed: true}", BEHIND,
           Packed("LSTM", 8, 6, 2, bidirectional=True))
    padded("padding_gru_both", "- gru: {width: 5, bidirectional: true, packed: true}", BEHIND,
           Packed("GRU", 8, 5, bidirectional=True))
    padded("padding_rnn_both", "- rnn: {width: 5, bidirectional: true, packed: true}", BEHIND,
           Packed("RNN", 8, 5, bidirectional=True))

    class Bert(BertModel):
        def forward(self, x):
            return super().forward(x, attention_mask=(x != PADDING).long()).pooler_output

    bert = Bert(BertConfig(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
                           intermediate_size=20, max_position_embeddings=12, pad_token_id=PADDING,
                           attn_implementation="eager"))
    case("padding_bert", "", bert, BEHIND, training=False,
         model="file: configs/models/bert_base.yaml\npadding: 0\n"
               "with: {vocabulary: 11, context: 12, width: 16, hidden: 20, heads: 4, layers: 2}")


class Translator(nn.Module):
    """nn.Transformer with embeddings, of tokens [B, source + target]."""

    def __init__(self, n_source, causal=True, padding=None, **options):
        super().__init__()
        self.transformer = nn.Transformer(8, 2, 2, 2, 12, 0.0, batch_first=True, **options)
        self.transformer.encoder.embed = nn.Embedding(VOCABULARY, 8)
        self.transformer.decoder.embed = nn.Embedding(VOCABULARY, 8)
        self.head = nn.Linear(8, VOCABULARY)
        self.n_source, self.causal, self.padding = n_source, causal, padding

    def forward(self, x):
        source, target = x[:, :self.n_source], x[:, self.n_source:]
        t = target.shape[1]
        hidden = [None if self.padding is None else part == self.padding for part in (source, target)]
        y = self.transformer(self.transformer.encoder.embed(source), self.transformer.decoder.embed(target),
                             tgt_mask=torch.ones(t, t, dtype=torch.bool).triu(1) if self.causal else None,
                             src_key_padding_mask=hidden[0], tgt_key_padding_mask=hidden[1],
                             memory_key_padding_mask=hidden[0])
        return self.head(y)


def translator(name, x, n_source, options="", padding=None, **torch_options):
    layer = f"heads: 2, feedforward: 12, dropout: 0{options}"
    embedding = f"{{embedding: {{name: embed, count: {VOCABULARY}, width: 8}}}}"

    def stack(kind):
        return (f"[{embedding}, {{sequential: {{name: layers, layers: [{{{kind}: {{{layer}}}}}, {{{kind}: {{{layer}}}}}]}}}}, "
                "{layer_norm: {name: norm}}]")

    text = (f"padding: {padding}\n" if padding is not None else "") + (
        f"layers:\n- encoder_decoder:\n    name: transformer\n    source: {n_source}\n"
        f"    encoder: {stack('transformer_encoder_layer')}\n    decoder: {stack('transformer_decoder_layer')}\n"
        f"- linear: {{name: head, out: {VOCABULARY}}}")
    case(name, "", Translator(n_source, padding=padding, **torch_options), x, model=text)


class Cross(nn.Module):
    """An encoder of embeddings, and decoder attention to them."""

    def __init__(self):
        super().__init__()
        names = nn.Module()
        names.encoder = nn.ModuleList([nn.Embedding(VOCABULARY, 8)])
        names.decoder = nn.ModuleList([nn.Embedding(VOCABULARY, 8), nn.MultiheadAttention(8, 2, batch_first=True)])
        self.add_module("0", names)

    def forward(self, x):
        part = getattr(self, "0")
        source = x[:, :4]
        memory, y = part.encoder[0](source), part.decoder[0](x[:, 4:])
        return part.decoder[1](y, memory, memory, key_padding_mask=source == PADDING, need_weights=False)[0]


def decoders():
    tokens = torch.randint(1, VOCABULARY, (3, 9))
    translator("transformer", tokens, 5)
    translator("transformer_pre_gelu", tokens, 4, ", norm_first: true, activation: gelu", norm_first=True,
               activation="gelu")
    filled = torch.cat((ids([3, 5, 1, 9, 10], [7, 2, 2], [8, 4]), ids([4, 2, 1, 6], [9, 3], [5, 5, 5])), 1)
    translator("transformer_padding", filled, 5, padding=PADDING)
    case("cross_attention", "", Cross(), torch.cat((ids([3, 0, 1, 9], [7, 2]), torch.tensor([[1, 2, 3], [4, 5, 6]])), 1),
         model=f"padding: 0\nlayers:\n- encoder_decoder:\n    source: 4\n"
               f"    encoder: [{{embedding: {{count: {VOCABULARY}, width: 8}}}}]\n"
               f"    decoder: [{{embedding: {{count: {VOCABULARY}, width: 8}}}}, "
               "{multihead_attention: {heads: 2, memory: true}}]")


def llama(name, scaling, text):
    class Llama(LlamaForCausalLM):
        def forward(self, x):
            return super().forward(x).logits

    module = Llama(LlamaConfig(vocab_size=19, hidden_size=32, intermediate_size=20, num_attention_heads=2,
                               num_key_value_heads=1, num_hidden_layers=1, rms_norm_eps=1e-5,
                               max_position_embeddings=64, attn_implementation="eager",
                               rope_parameters={"rope_theta": 10000.0, **scaling}))
    case(name, "", module, torch.randint(0, 19, (1, 30)),
         model="file: configs/models/llama.yaml\n"
               f"with: {{vocabulary: 19, width: 32, hidden: 20, heads: 2, kv_heads: 1, layers: 1{text}}}")


class Linear(nn.Module):
    """transformers' linear rope_scaling over one attention: positions divided by 4."""

    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (part.view(b, t, 2, 8).transpose(1, 2) for part in self.qkv(x).chunk(3, 2))
        angle = torch.arange(t)[:, None] / 4 * 10000.0 ** (-torch.arange(0, 8, 2).double() / 8)
        c, s = torch.cat((angle, angle), -1).cos(), torch.cat((angle, angle), -1).sin()
        q, k = (u * c + torch.cat((-u[..., 4:], u[..., :4]), -1) * s for u in (q, k))
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(b, t, 16))


class Gated(nn.Module):
    def __init__(self, gate, dim):
        super().__init__()
        self.gate, self.dim = gate, dim

    def forward(self, x):
        a, b = x.chunk(2, self.dim)
        return a * self.gate(b)


def others():
    llama("llama_scaled", {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                           "original_max_position_embeddings": 16}, ", scaling: 8, old_context: 16")
    case("rope_linear", "- attention: {heads: 2, rope: {scaling: {type: linear, factor: 4}}}", Linear(),
         torch.randn(2, 9, 16))
    x = torch.randn(2, 6, 5)
    case("rrelu_eval", "- rrelu", nn.RReLU(), x, training=False)
    case("rrelu_eval_own", "- rrelu: {lower: -0.2, upper: 0.6}", nn.RReLU(-0.2, 0.6), x, training=False)
    case("rrelu_fixed", "- rrelu: {lower: 0.25, upper: 0.25}", nn.RReLU(0.25, 0.25), x)
    case("softmax2d", "- softmax2d", nn.Softmax2d(), torch.randn(2, 3, 4, 5))
    for gate, function in (("gelu", nn.functional.gelu), ("silu", nn.functional.silu), ("relu", nn.functional.relu),
                           ("linear", lambda b: b)):
        case(f"glu_{gate}", f"- glu: {{gate: {gate}, axis: 1}}", Gated(function, 1), x)


def main():
    paddings()
    decoders()
    others()
    write(pathlib.Path(__file__).with_name("padding_modules.safetensors"))


if __name__ == "__main__":
    main()
