#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random short jobs against PyTorch: a small model, a loss, an optimizer with groups of parameters, a schedule, clipping and
averaging with random options, trained from gradd's initial parameters on gradd's batches; losses and parameters afterwards
are compared. Each job runs a second time, paused half-way, on other numbers of workers: the same bits."""
import collections
import copy
import json
import math
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torch.nn as nn
from safetensors.torch import load_file

import random_losses
from compare import LIMITS, Tally, arguments, difference, with_noise
from random_layers import Residual
from random_losses import BATCH, N
from random_optimizers import N_STEPS, Plateau, groups_draw, optimizer_draw, schedule_draw

POINTS = {"losses": "loss", "learning_rates": "learning_rate", "norms": "gradient_norm", "evaluations": "validation_loss"}
V, T = 9, 6  # token numbers and tokens of a sample
N_VALIDATION, EVERY = 13, 5  # samples that are evaluated, which aren't whole batches; steps between evaluations

Net = collections.namedtuple("Net", "layers module inputs padding")


def text(value):
    """YAML; fields that are None stay away."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {text(part)}" for key, part in value.items() if part is not None) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(text(part) for part in value) + "]"
    return value if isinstance(value, str) else json.dumps(value)


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
    return Net(layers, Tokens(embedding, module, nn.LayerNorm(width), last), torch.randint(0, V, (N, T)), None)


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
    return Net(["{embedding: {count: %d, width: %d}}" % (V, width), middle, pooled, "{linear: {out: %d}}" % wide], net, x, 0)


def plain_net(r, wide):
    """wide outputs a sample of 4 values."""
    p = r.choice([0.0, 0.0, 1.0])
    choices = [(), (("batch_norm1d", nn.BatchNorm1d(7)),), (("layer_norm", nn.LayerNorm(7)),),
               (("{dropout: {p: %s}}" % p, nn.Dropout(p)),),
               (("{residual: [{linear: {out: 7}}, {relu: {}}]}", Residual(nn.Linear(7, 7), nn.ReLU())),)]
    layers = [("{linear: {out: 7}}", nn.Linear(4, 7)), *r.choice(choices), r.choice([("tanh", nn.Tanh()), ("silu", nn.SiLU())]),
              ("{linear: {out: %d}}" % wide, nn.Linear(7, wide))]
    return Net([t for t, _ in layers], nn.Sequential(*(m for _, m in layers)), torch.randn(N, 4), None)


LAST = {"log_softmax": nn.LogSoftmax(-1), "sigmoid": nn.Sigmoid(), "softplus": nn.Softplus()}


class Job:
    def __init__(self, seed, folder, precision):
        r = random.Random(seed)
        torch.manual_seed(seed)
        self.folder, self.precision, self.micro = folder, precision, r.choice([1, 2, 4])
        kind = r.choice(["plain", "plain", "plain", "tokens", "padded"])
        self.loss = random_losses.tokens(r, T, V) if kind == "tokens" else random_losses.draw(r, self.micro)
        wide = int(np.prod(self.loss.shape))
        net = tokens_net(r) if kind == "tokens" else padded_net(r, wide) if kind == "padded" else plain_net(r, wide)
        layers, self.net = net.layers, net.module
        if self.loss.last is not None:
            layers.append(self.loss.last)
            self.net.append(LAST[self.loss.last])
        if kind != "tokens" and len(self.loss.shape) > 1:
            layers.append("{reshape: {shape: %s}}" % self.loss.shape)
            self.net.append(nn.Unflatten(1, self.loss.shape))
        optimizer, fields, self.lr, self.build = optimizer_draw(r)
        self.groups = groups_draw(r, [name for name, _ in self.net.named_parameters()], optimizer)
        schedule, self.rates, self.plateau = schedule_draw(r, self.lr)
        self.every = r.choice([1, 2, 5]) if self.plateau else EVERY
        self.clip = dict(clip_norm=r.choice([0, 0, 0.3]), clip_value=r.choice([0, 0, 0.02]))
        self.decay = r.choice([None, None, 0.9, 0.5])
        self.workers = [r.choice([w for w in (1, 2, 4) if w <= self.micro]) for _ in range(2)]
        self.kinds = [kind, self.loss.kind, optimizer, f"schedule {next(iter(schedule))}", f"workers {self.workers}"]
        self.kinds += [key for key, value in self.clip.items() if value] + ["groups"] * bool(self.groups)
        self.kinds += ["schedule with plateau"] * (self.plateau is not None)
        self.inputs, self.targets = net.inputs, self.loss.targets
        for name, array in (("x", self.inputs), ("y", self.targets)):
            np.save(folder / f"{name}.npy", array.numpy())
            np.save(folder / f"{name}.validation.npy", array[:N_VALIDATION].numpy())
        training = dict(steps=N_STEPS, batch=BATCH, microbatches=self.micro, loss={self.loss.kind: self.loss.fields},
                        optimizer={optimizer: fields}, schedule=schedule, groups=self.groups or None, **self.clip,
                        average=None if self.decay is None else {"decay": self.decay},
                        precision=None if precision == "f32" else precision)
        data = {name: {"npy": dict(inputs=f"x{part}.npy", targets=f"y{part}.npy", tokens=None if kind == "plain" else True)}
                for name, part in (("train", ""), ("validation", ".validation"))}
        model = "{layers: [" + ", ".join(layers) + "]" + (f", padding: {net.padding}" if net.padding is not None else "") + "}"
        self.text = f"seed: {seed}\nmodel: {model}\ndata: {text(data)}\ntraining: {text(training)}\n"
        self.text += f"evaluation: {{every: {self.every}}}\n"
        (folder / "job.yaml").write_text(self.text)

    def ours(self, program, name, workers):
        """Trains in parts, each on so many workers: (losses, SHA-256, checkpoint's folder), or what went wrong."""
        out, losses = self.folder / name, ""
        out.mkdir()
        for i, n in enumerate(workers):
            done = subprocess.run([program, "train", self.folder / "job.yaml", out, str(N_STEPS * (i + 1) // len(workers)),
                                   f"resources.workers={n}"], capture_output=True, text=True, timeout=60)
            if done.returncode != 0:
                return f"{n} workers: " + (done.stderr.strip().splitlines() or ["died"])[-1]
            losses += (out / "losses").read_text()
        return losses, (out / "sha256").read_text(), sorted((out / "job/checkpoints").glob("step-*"))[-1]

    def evaluate(self, net, average, dtype, autocast):
        """The loss of the validation data with the average, which is the parameters themselves without one."""
        net = copy.deepcopy(net).eval()
        net.load_state_dict(average, strict=False)
        x, y = self.inputs[:N_VALIDATION], self.targets[:N_VALIDATION]
        x, y = (t.to(dtype) if t.is_floating_point() else t for t in (x, y))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, autocast):
            given = net(x)
        loss = self.loss.evaluated(given.to(dtype), y).item()
        return loss * BATCH / N_VALIDATION if self.loss.fields.get("reduction") == "sum" else loss

    def theirs(self, start, batches, dtype, noise=0, autocast=False):
        """Losses, rates, norms of gradients, parameters and their average."""
        net = copy.deepcopy(self.net).float()
        net.load_state_dict(start, strict=False)
        net = with_noise(net.to(dtype), noise) if noise else net.to(dtype)
        optimizer, plateau = self.build(net, self.groups), Plateau(self.lr, self.plateau)
        found = {key: [] for key in ("losses", "learning_rates", "norms", "evaluations")}
        average = {k: v.detach().clone() for k, v in net.named_parameters()}
        for step in range(N_STEPS):
            rate = self.rates[step] * plateau.factor()
            for group in optimizer.param_groups:
                group["lr"] = rate * group["scale"]
            x, y = batches[f"x.{step}"], batches[f"y.{step}"]
            x, y = (t.to(dtype) if t.is_floating_point() else t.long() for t in (x, y))
            with torch.autocast("cpu", torch.bfloat16, autocast):
                given = torch.cat([net(part) for part in x.split(BATCH // self.micro)])
            loss = self.loss.of(given.to(dtype), y.reshape(len(x), *self.loss.targets.shape[1:]))
            optimizer.zero_grad()
            loss.backward()
            if self.clip["clip_value"]:
                nn.utils.clip_grad_value_(net.parameters(), self.clip["clip_value"])
            norm = nn.utils.clip_grad_norm_(net.parameters(), self.clip["clip_norm"] or math.inf)
            optimizer.step()
            for key, value in (("losses", loss.item()), ("learning_rates", rate), ("norms", norm.item())):
                found[key].append(value)
            for name, p in net.named_parameters():
                average[name].lerp_(p.detach(), 1 - self.decay if self.decay and step > 0 else 1)  # as AveragedModel
            if (step + 1) % self.every == 0 or step + 1 == N_STEPS:
                found["evaluations"].append(self.evaluate(net, average, dtype, autocast))
                plateau.see(found["evaluations"][-1])
        found = {key: torch.tensor(values, dtype=torch.float64) for key, values in found.items()}
        found |= {k: v.detach().double() for k, v in net.state_dict().items()}
        return found | ({f"average {k}": v.double() for k, v in average.items()} if self.decay else {})

    def judge(self, program):
        whole = self.ours(program, "whole", [1])
        if isinstance(whole, str):
            return whole
        parts = self.ours(program, "parts", self.workers)
        if isinstance(parts, str):
            return "paused: " + parts
        if whole[:2] != parts[:2]:
            return f"other bits where it is paused and on {self.workers} workers"
        start, batches = (load_file(self.folder / "whole" / f"{name}.safetensors") for name in ("init", "batches"))
        exact = self.theirs(start, batches, torch.float64)
        limits, is_low = LIMITS[self.precision], self.precision == "bf16"
        own = [self.theirs(start, batches, torch.float32, noise, is_low)
               for noise in (0, *[limits.noise] * (3 if is_low else 1))]
        points = [line.split() for line in (self.folder / "whole" / "points").read_text().splitlines()]
        ours = {key: torch.tensor([float(value) for _, name, value in points if name == point], dtype=torch.float64)
                for key, point in POINTS.items()}
        ours |= load_file(whole[2] / "model.safetensors")
        if self.decay:
            ours |= {f"average {k}": v for k, v in load_file(whole[2] / "average.safetensors").items()}
        for key, value in exact.items():
            if key.endswith("num_batches_tracked") or key not in ours and key == f"{len(self.net) - 1}.weight":
                continue  # a tied weight has one name
            wrong = difference(key, ours[key], value, [run[key] for run in own], limits)
            if wrong is not None:
                return wrong
        return None


def main():
    options = arguments("jobs", __doc__, 200)
    tally = Tally("jobs", options)
    for seed in range(options.seed, options.seed + options.count):
        with tempfile.TemporaryDirectory() as temporary:
            job = Job(seed, pathlib.Path(temporary), options.precision)
            tally.kinds.update(job.kinds)
            tally.add(seed, job.text, job.judge(options.program))
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
