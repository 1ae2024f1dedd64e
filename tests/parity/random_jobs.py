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
from compare import DTYPES, LIMITS, Tally, arguments, difference, with_noise
from random_losses import BATCH, N
from random_nets import T, V, encoder_decoder_net, padded_net, plain_net, sound_net, tokens_net
from loss_scale import Scaling, peaks_watch, scale_draw, scaled_backward
from random_optimizers import N_STEPS, Plateau, groups_draw, optimizer_draw, schedule_draw

POINTS = {"losses": "loss", "learning_rates": "learning_rate", "norms": "gradient_norm", "evaluations": "validation_loss",
          "scales": "loss_scale", "skipped": "skipped_steps"}
N_VALIDATION, EVERY = 13, 5  # samples that are evaluated, which aren't whole batches; steps between evaluations

LAST = {"log_softmax": nn.LogSoftmax(-1), "sigmoid": nn.Sigmoid(), "softplus": nn.Softplus()}


def text(value):
    """YAML; fields that are None stay away."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {text(part)}" for key, part in value.items() if part is not None) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(text(part) for part in value) + "]"
    return value if isinstance(value, str) else json.dumps(value)


class Job:
    def __init__(self, seed, folder, precision):
        r = random.Random(seed)
        torch.manual_seed(seed)
        self.folder, self.precision, self.micro = folder, precision, r.choice([1, 2, 4])
        kind = r.choice(["plain", "plain", "plain", "tokens", "padded", "encoder_decoder", "sound"])
        of_tokens = {"tokens": tokens_net, "encoder_decoder": encoder_decoder_net}
        self.loss = random_losses.tokens(r, T, V) if kind in of_tokens else \
            random_losses.classes(r) if kind == "sound" else random_losses.draw(r, self.micro)
        wide = int(np.prod(self.loss.shape))
        net = of_tokens[kind](r) if kind in of_tokens else \
            {"plain": plain_net, "padded": padded_net, "sound": sound_net}[kind](r, wide)
        layers, self.net = net.layers, net.module
        if self.loss.last is not None:
            layers.append(self.loss.last)
            self.net.append(LAST[self.loss.last])
        if kind not in of_tokens and len(self.loss.shape) > 1:
            layers.append("{reshape: {shape: %s}}" % self.loss.shape)
            self.net.append(nn.Unflatten(1, self.loss.shape))
        self.optimizer, fields, self.lr, self.build = optimizer_draw(r)
        self.groups = groups_draw(r, [name for name, _ in self.net.named_parameters()], self.optimizer)
        schedule, self.rates, self.plateau = schedule_draw(r, self.lr)
        self.every = r.choice([1, 2, 5]) if self.plateau else EVERY
        self.clip = dict(clip_norm=r.choice([0, 0, 0.3]), clip_value=r.choice([0, 0, 0.02]))
        self.decay = r.choice([None, None, 0.9, 0.5])
        average = dict(decay=self.decay, evaluate=r.choice([None, True, False]), save=r.choice([None, True, False]))
        self.evaluates_average, self.saves_average = average["evaluate"] is not False, average["save"] is not False
        scaling, self.scaler = scale_draw(r, precision)
        self.workers = [r.choice([w for w in (1, 2, 4) if w <= self.micro]) for _ in range(2)]
        self.kinds = [kind, self.loss.kind, self.optimizer, f"schedule {next(iter(schedule))}", f"workers {self.workers}"]
        self.kinds += [key for key, value in self.clip.items() if value] + ["groups"] * bool(self.groups)
        self.kinds += ["schedule with plateau"] * (self.plateau is not None) + ["average"] * (self.decay is not None)
        self.kinds += ["loss_scale"] * (scaling is not None)
        self.inputs, self.targets = net.inputs, self.loss.targets
        training = dict(steps=N_STEPS, batch=BATCH, microbatches=self.micro, loss={self.loss.kind: self.loss.fields},
                        optimizer={self.optimizer: fields}, schedule=schedule, groups=self.groups or None, **self.clip,
                        average=None if self.decay is None else average, loss_scale=scaling,
                        precision=None if precision == "f32" else precision)
        data = {name: net.write(folder, name, self.inputs[:n], self.targets[:n])
                for name, n in (("train", N), ("validation", N_VALIDATION))}
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

    def autocast(self, is_on):
        return torch.autocast("cpu", DTYPES[self.precision] if is_on else torch.bfloat16, is_on)

    def evaluate(self, net, average, dtype, autocast):
        """The loss of the validation data, with the average where there is one that is evaluated."""
        net = copy.deepcopy(net).eval()
        if self.decay and self.evaluates_average:
            net.load_state_dict(average, strict=False)
        x, y = self.inputs[:N_VALIDATION], self.targets[:N_VALIDATION]
        x, y = (t.to(dtype) if t.is_floating_point() else t for t in (x, y))
        with torch.no_grad(), self.autocast(autocast):
            given = net(x)
        loss = self.loss.evaluated(given.to(dtype), y).item()
        return loss * BATCH / N_VALIDATION if self.loss.fields.get("reduction") == "sum" else loss

    def theirs(self, start, batches, scaling, dtype, noise=0, autocast=False):
        """Losses, rates, norms of gradients, parameters and their average."""
        net = copy.deepcopy(self.net).float()
        net.load_state_dict(start, strict=False)
        net = with_noise(net.to(dtype), noise) if noise else net.to(dtype)
        optimizer, plateau = self.build(net, self.groups), Plateau(self.lr, self.plateau)
        found = {key: [] for key in ("losses", "learning_rates", "norms", "evaluations")}
        average, peaks = {k: v.detach().clone() for k, v in net.named_parameters()}, peaks_watch(net)
        for step in range(N_STEPS):
            rate = self.rates[step] * plateau.factor()
            for group in optimizer.param_groups:
                group["lr"] = rate * group["scale"]
            x, y = batches[f"x.{step}"], batches[f"y.{step}"]
            x, y = (t.to(dtype) if t.is_floating_point() else t.long() for t in (x, y))
            with self.autocast(autocast):
                given = torch.cat([net(part) for part in x.split(BATCH // self.micro)])
            loss = self.loss.of(given.to(dtype), y.reshape(len(x), *self.loss.targets.shape[1:]))
            scaled_backward(optimizer, net, loss, scaling.scales[step])
            found["losses"].append(loss.item())
            found["learning_rates"].append(rate)
            if dtype == torch.float64:
                scaling.peaks.append(peaks.take())
            if self.clip["clip_value"]:
                nn.utils.clip_grad_value_(net.parameters(), self.clip["clip_value"])
            norm = nn.utils.clip_grad_norm_(net.parameters(), self.clip["clip_norm"] or math.inf)
            if scaling.is_taken[step]:
                is_first = not found["norms"]
                found["norms"].append(norm.item())
                optimizer.step()
                for name, p in net.named_parameters():
                    average[name].lerp_(p.detach(), 1 - self.decay if self.decay and not is_first else 1)  # as AveragedModel
            if (step + 1) % self.every == 0 or step + 1 == N_STEPS:
                found["evaluations"].append(self.evaluate(net, average, dtype, autocast))
                plateau.see(found["evaluations"][-1])
        found = {key: torch.tensor(values, dtype=torch.float64) for key, values in found.items()}
        found |= {k: v.detach().double() for k, v in net.state_dict().items()}
        return found | ({f"average {k}": v.double() for k, v in average.items()} if self.decay and self.saves_average else {})

    def misread(self, batches):
        """What is wrong with the batches, or None: an epoch has whole batches of different samples of the data."""
        def rows(x, y):
            return [a.double().numpy().tobytes() + b.double().numpy().tobytes() for a, b in zip(x, y)]
        known, n_epoch = collections.Counter(rows(self.inputs, self.targets)), N // BATCH
        for first in range(0, N_STEPS, n_epoch):
            read = collections.Counter()
            for step in range(first, min(first + n_epoch, N_STEPS)):
                read.update(rows(batches[f"x.{step}"], batches[f"y.{step}"]))
            if read - known:
                return f"{(read - known).total()} samples of steps {first} to {step} aren't the data's, or stand twice in an epoch"
        return None

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
        if self.misread(batches):
            return self.misread(batches)
        points = [line.split() for line in (self.folder / "whole" / "points").read_text().splitlines()]
        ours = {key: torch.tensor([float(value) for _, name, value in points if name == point], dtype=torch.float64)
                for key, point in POINTS.items()}
        scaling = Scaling(self.scaler, ours.pop("scales"), ours.pop("skipped"))
        exact = self.theirs(start, batches, scaling, torch.float64)
        wrong = scaling.judge(self.precision)
        if wrong is not None:
            return wrong
        limits, is_low = LIMITS[self.precision], self.precision != "f32"
        own = [self.theirs(start, batches, scaling, torch.float32, noise, is_low)
               for noise in (0, *[limits.noise] * (3 if is_low else 1))]
        ours |= load_file(whole[2] / "model.safetensors")
        saved = whole[2] / "average.safetensors"
        if saved.exists() != bool(self.decay and self.saves_average):
            return f"average.safetensors is {'' if saved.exists() else 'not '}there"
        if saved.exists():
            ours |= {f"average {k}": v for k, v in load_file(saved).items()}
        wrong = self.differ(ours, exact, own, limits)
        if wrong is not None:  # few rounding errors may be lucky ones: where a sign decides, or an optimizer divides by its size
            own += [self.theirs(start, batches, scaling, torch.float32, limits.noise, is_low) for _ in range(12)]
            wrong = self.differ(ours, exact, own, limits)
        return wrong

    def differ(self, ours, exact, own, limits):
        """What is, or None."""
        for key, value in exact.items():
            if key.endswith("num_batches_tracked") or key not in ours and key == f"{len(self.net) - 1}.weight":
                continue  # a tied weight has one name
            wrong = difference(key, ours[key], value, [run[key] for run in own], limits)
            if wrong is not None:
                return wrong
        return None


def main():
    options = arguments("jobs", __doc__, 200, ["f32", "bf16", "f16"])
    tally = Tally("jobs", options)
    torch.backends.mkldnn.set_flags(options.precision != "f16")  # in which its LSTM isn't on every machine
    for seed in range(options.seed, options.seed + options.count):
        with tempfile.TemporaryDirectory() as temporary:
            job = Job(seed, pathlib.Path(temporary), options.precision)
            tally.kinds.update(job.kinds)
            tally.add(seed, job.text, job.judge(options.program))
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
