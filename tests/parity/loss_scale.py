# SPDX-License-Identifier: Apache-2.0
"""Loss scaling, as a job has it and as PyTorch's GradScaler computes it: which steps are skipped, and whether they had to."""
import torch
import torch.nn as nn

from random_optimizers import N_STEPS, some

LARGEST = {"f32": 2.0**128, "bf16": 2.0**128, "f16": 2.0**16}
# Which values are held in f16 on the way is each one's own matter: that much larger ones must, or smaller ones can't overflow.
SURELY = 16


def scale_draw(r, precision):
    """(a job's loss_scale or None, arguments of GradScaler or None)"""
    if r.random() < 0.6:
        return None, dict(init_scale=65536.0, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000) \
            if precision == "f16" else None
    init_t, init = some(r, 65536.0, 1024.0, 1000.0, 2.0**22 if precision == "f16" else 2.0**96)
    growth_t, growth = some(r, 2.0, 1.5, 8.0)
    backoff_t, backoff = some(r, 0.5, 0.3)
    every = r.choice([None, 1, 2, 4])
    return dict(init=init_t, growth=growth_t, backoff=backoff_t, interval=every), \
        dict(init_scale=init, growth_factor=growth, backoff_factor=backoff, growth_interval=every or 2000)


class Peaks:
    """The largest gradients of a step: of all that modules give and of parameters; of what linear layers give."""

    def __init__(self):
        self.any = self.certain = 0.0

    def see(self, module, _, gradients):
        peak = max((g.abs().max().item() for g in gradients if g is not None and g.numel() > 0), default=0.0)
        self.any = max(self.any, peak)
        self.certain = max(self.certain, peak if type(module) is nn.Linear else 0.0)

    def take(self):
        found = self.any, self.certain
        self.any = self.certain = 0.0
        return found


def peaks_watch(net):
    peaks = Peaks()
    for module in net.modules():
        module.register_full_backward_hook(peaks.see)
    for p in filter(lambda p: p.requires_grad, net.parameters()):
        p.register_hook(lambda g, p=p: peaks.see(p, None, [g]))
    return peaks


def scaled_backward(optimizer, net, loss, scale):
    """Gradients by way of a scale: the largest up to it with which none overflows."""
    while True:
        optimizer.zero_grad()
        (loss * scale).backward(retain_graph=True)
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        if all(g.isfinite().all() for g in gradients) or scale < 1e-10:
            break
        scale /= 2
    for g in gradients:
        g.div_(scale)


class Scaling:
    """What we did: the scale of each step, and whether the step was taken."""

    def __init__(self, options, scales, skipped):
        self.options, self.after, self.peaks = options, scales, []
        self.scales, self.is_taken = [1.0] * N_STEPS, [True] * N_STEPS
        if options is not None and len(scales) == len(skipped) == N_STEPS:
            self.scales = [options["init_scale"], *scales.tolist()[:-1]]
            self.is_taken = [a == b for a, b in zip(skipped.tolist(), [0.0, *skipped.tolist()])]

    def judge(self, precision):
        """What is wrong, or None."""
        if len(self.after) != (N_STEPS if self.options else 0):
            return f"{len(self.after)} points of loss_scale"
        if self.options is None:
            return None
        scale, tracker = torch.full((1,), self.options["init_scale"]), torch.zeros(1, dtype=torch.int32)
        for step, (is_taken, peaks) in enumerate(zip(self.is_taken, self.peaks)):
            any_, certain = (peak / LARGEST[precision] for peak in peaks)
            if not is_taken and any_ < 1 / SURELY:
                return f"step {step + 1} is skipped at the loss scale {self.scales[step]}; the largest gradient is {peaks[0]}"
            if is_taken and certain > SURELY:
                return f"step {step + 1} isn't skipped at the loss scale {self.scales[step]}; a gradient is {peaks[1]}"
            torch._amp_update_scale_(scale, tracker, torch.full((1,), float(not is_taken)), self.options["growth_factor"],
                                     self.options["backoff_factor"], self.options["growth_interval"])
            if scale.item() != self.after[step].item():
                return f"the loss scale after step {step + 1} is {self.after[step].item()}, PyTorch's {scale.item()}"
        return None
