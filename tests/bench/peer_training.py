# SPDX-License-Identifier: Apache-2.0
"""What the peers' trainings share: one step as PyTorch's users write it, in eager mode or compiled."""
import torch


def windows(tokens, batch, time):
    """Random windows of a stream of tokens, and the same one further."""
    starts = torch.randint(0, len(tokens) - time - 1, (batch,))
    return (torch.stack([tokens[s:s + time] for s in starts]), torch.stack([tokens[s + 1:s + time + 1] for s in starts]))


class Training:
    """Derived: model, optimizer, batch() and loss(*batch()); max_norm: the gradient is clipped to it."""

    max_norm = None

    def compile(self):
        """Forward, loss and their backward; the optimizers are fused kernels."""
        self.loss = torch.compile(self.loss)

    def step(self):
        loss = self.loss(*self.batch())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        self.optimizer.step()
        return loss.item()


class AdamW100M:
    """The optimizer's step alone over 100 million parameters in 25 tensors, as bench_optim.c: PyTorch's fused kernel, or
    its step for all tensors at once (foreach), compiled."""

    def __init__(self):
        self.parameters = [torch.randn(2000, 2000, requires_grad=True) for _ in range(25)]
        for parameter in self.parameters:
            parameter.grad = torch.randn(2000, 2000) * 1e-3
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-3, weight_decay=0.01, fused=True)
        self.run = self.optimizer.step

    def compile(self):
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-3, weight_decay=0.01, foreach=True)
        self.run = torch.compile(self.optimizer.step)

    def step(self):
        with torch.no_grad():
            self.run()
        return 0.0
