# SPDX-License-Identifier: Apache-2.0
"""Random losses, as a job has them and as PyTorch computes them, with targets of N samples."""
import collections

import torch
import torch.nn.functional as F

BATCH, N = 8, 41  # samples of a step, of the data
SUMMED = ["mse", "l1", "smooth_l1", "huber", "bce_with_logits", "soft_margin", "hinge_embedding", "focal"]
KINDS = SUMMED + ["cross_entropy", "cross_entropy", "nll", "multi_margin", "bce", "poisson_nll", "kl_div", "gaussian_nll",
                  "multilabel_soft_margin", "cosine_embedding", "margin_ranking", "triplet_margin", "info_nce", "dice"]


def numbers(r, n, low, high):
    return [round(r.uniform(low, high), 3) for _ in range(n)] if r.random() < 0.5 else None


def tensor(values, like):
    return None if values is None else torch.tensor(values, dtype=like.dtype)


class Loss(collections.namedtuple("Loss", "kind fields last shape targets of")):
    def evaluated(self, y, t):
        """As `of`, but no labels are smoothed, and a sample's negatives are those of its batch."""
        return self.of(y, t, 0.0) if self.kind == "cross_entropy" else self.of(y, t, BATCH) if self.kind == "info_nce" else \
            self.of(y, t)


def draw(r, micro):
    """A loss of one output a sample: its kind and fields in a job, the layer that the model ends in or None, the outputs'
    shape, targets, and the function of both in PyTorch."""
    return Loss(*plain(r, micro)) if r.random() < 0.85 else parts(r)


def classes(r):
    """A loss of labels, each of which is the class of some of the first samples."""
    loss = Loss(*plain(r, 1, ["cross_entropy", "nll", "multi_margin"]))
    loss.targets.abs_().remainder_(loss.shape[0])
    loss.targets[:loss.shape[0]] = torch.arange(loss.shape[0])
    return loss


def parts(r):
    """Several tasks: each loss is of its own part of the outputs and of the targets."""
    drawn, weights = [Loss(*plain(r, 1, SUMMED)) for _ in range(2)], [1.0, r.choice([0.3, 2.0])]
    c = drawn[0].shape[0], drawn[1].shape[0]
    where = [[0, c[0]], [c[0], sum(c)]]
    fields = [{"loss": {loss.kind: loss.fields}, "weight": weight, "outputs": at, "targets": at}
              for loss, weight, at in zip(drawn, weights, where)]

    def of(y, t):
        return sum(w * loss.of(y[:, a:b], t[:, a:b]) for loss, w, (a, b) in zip(drawn, weights, where))
    return Loss("sum", {"parts": fields}, None, [sum(c)], torch.cat([loss.targets for loss in drawn], 1), of)


def tokens(r, t, v):
    """A loss of logits [t, v] a sample."""
    if r.random() < 0.5:
        fields, of = cross_entropy(r, v)
        labels = torch.randint(0, v, (N, t))
        return Loss("cross_entropy", fields, None, [t, v], labels,
                    lambda y, at, *smooth: of(y.flatten(0, 1), at.flatten(), *smooth))
    lengths = torch.randint(0, t // 2 + 1, (N,))
    labels = torch.where(torch.arange(t // 2) < lengths[:, None], torch.randint(1, v, (N, t // 2)), 0)
    fields = dict(padding=0, zero_infinity=True, reduction=r.choice([None, "mean", "batch_mean", "sum"]))

    def ctc(y, at):
        sizes = (at != 0).sum(1)
        each = F.ctc_loss(F.log_softmax(y, -1).transpose(0, 1), at, torch.full_like(sizes, t), sizes, reduction="none",
                          zero_infinity=True)
        return each.sum() if fields["reduction"] == "sum" else \
            each.mean() if fields["reduction"] == "batch_mean" else (each / sizes.clamp(min=1)).mean()
    return Loss("ctc", fields, None, [t, v], labels, ctc)


def ignored(r, c):
    """Not of two classes, where a whole batch may be ignored: its loss is 0 with us, and NaN in PyTorch."""
    return r.choice([None, 0, 1]) if c > 2 else None


def cross_entropy(r, c):
    weight, ignore, smooth = numbers(r, c, 0.2, 2), ignored(r, c), r.choice([None, 0.1, 0.4])
    fields = dict(weight=weight, ignore_index=ignore, label_smoothing=smooth)
    return fields, lambda y, t, smooth=smooth or 0.0: F.cross_entropy(
        y, t, tensor(weight, y), ignore_index=-100 if ignore is None else ignore, label_smoothing=smooth)


def plain(r, micro, kinds=None):
    kind = r.choice(kinds or KINDS)
    c = r.choice([2, 3, 5])
    real, hard = torch.randn(N, c), (torch.rand(N, c) < 0.5).float()
    signs, labels = 2 * hard - 1, torch.randint(0, c, (N,))
    if kind == "cross_entropy":
        fields, call = cross_entropy(r, c)
        return kind, fields, None, [c], labels, call
    if kind == "nll":
        weight, ignore = numbers(r, c, 0.2, 2), r.choice([ignored(r, c), -100])
        labels[::3] = -100 if ignore == -100 else labels[::3]
        return kind, dict(weight=weight, ignore_index=ignore), "log_softmax", [c], labels, \
            lambda y, t: F.nll_loss(y, t, tensor(weight, y), ignore_index=-100 if ignore is None else ignore)
    if kind == "multi_margin":
        p, margin, weight = r.choice([1, 2]), r.choice([0.5, 1.0]), numbers(r, c, 0.2, 2)
        return kind, dict(p=p, margin=margin, weight=weight), None, [c], labels, \
            lambda y, t: F.multi_margin_loss(y, t, p, margin, tensor(weight, y))
    if kind in ("mse", "l1", "soft_margin"):
        call = {"mse": F.mse_loss, "l1": F.l1_loss, "soft_margin": F.soft_margin_loss}[kind]
        return kind, {}, None, [c], signs if kind == "soft_margin" else real, call
    if kind in ("smooth_l1", "huber"):
        b = r.choice([0.3, 1.0, 2.0])
        return kind, {"beta" if kind == "smooth_l1" else "delta": b}, None, [c], real, \
            (lambda y, t: F.smooth_l1_loss(y, t, beta=b)) if kind == "smooth_l1" else (lambda y, t: F.huber_loss(y, t, delta=b))
    if kind == "bce_with_logits":
        weight, positive = numbers(r, c, 0.2, 2), numbers(r, c, 0.2, 2)
        return kind, dict(weight=weight, pos_weight=positive), None, [c], r.choice([hard, torch.rand(N, c)]), \
            lambda y, t: F.binary_cross_entropy_with_logits(y, t, tensor(weight, y), pos_weight=tensor(positive, y))
    if kind == "bce":
        weight = numbers(r, c, 0.2, 2)
        return kind, dict(weight=weight), "sigmoid", [c], r.choice([hard, torch.rand(N, c)]), \
            lambda y, t: F.binary_cross_entropy(y, t, tensor(weight, y))
    if kind == "poisson_nll":
        log_input, full, eps = r.random() < 0.5, r.random() < 0.5, r.choice([1e-8, 1e-3])
        return kind, dict(log_input=log_input, full=full, epsilon=eps), None if log_input else "softplus", [c], \
            torch.randint(0, 6, (N, c)).float(), lambda y, t: F.poisson_nll_loss(y, t, log_input, full, eps=eps)
    if kind == "kl_div":
        log_target, batch = r.random() < 0.5, r.random() < 0.5
        shares = F.softmax(real, -1)
        return kind, dict(log_target=log_target, batch_mean=batch), "log_softmax", [c], shares.log() if log_target else shares, \
            lambda y, t: F.kl_div(y, t, reduction="batchmean" if batch else "mean", log_target=log_target)
    if kind == "gaussian_nll":
        full, eps = r.random() < 0.5, r.choice([1e-6, 0.3])
        return kind, dict(full=full, epsilon=eps), "softplus", [2 * c], real, \
            lambda y, t: F.gaussian_nll_loss(y[:, :c], t, y[:, c:], full, eps)
    if kind == "hinge_embedding":
        margin = r.choice([0.5, 1.0])
        return kind, dict(margin=margin), None, [c], signs, lambda y, t: F.hinge_embedding_loss(y, t, margin)
    if kind == "multilabel_soft_margin":
        weight = numbers(r, c, 0.2, 2)
        return kind, dict(weight=weight), None, [c], hard, lambda y, t: F.multilabel_soft_margin_loss(y, t, tensor(weight, y))
    if kind == "cosine_embedding":
        margin = r.choice([0.0, 0.3, -0.2])
        return kind, dict(margin=margin), None, [2, c], signs[:, :1], \
            lambda y, t: F.cosine_embedding_loss(y[:, 0], y[:, 1], t[:, 0], margin)
    if kind == "margin_ranking":
        margin = r.choice([0.0, 0.3])
        return kind, dict(margin=margin), None, [2], signs[:, :1], \
            lambda y, t: F.margin_ranking_loss(y[:, 0], y[:, 1], t[:, 0], margin)
    if kind == "triplet_margin":
        margin, p, swap = r.choice([0.5, 1.0]), r.choice([1.0, 2.0, 3.0]), r.random() < 0.5
        return kind, dict(margin=margin, p=p, swap=swap), None, [3, c], real[:, :1], \
            lambda y, t: F.triplet_margin_loss(y[:, 0], y[:, 1], y[:, 2], margin, p, 1e-6, swap)
    if kind == "info_nce":
        heat = r.choice([0.07, 0.3])
        return kind, dict(temperature=heat), None, [2, c], real[:, :1], lambda y, t, n=BATCH // micro: torch.cat([F.cross_entropy(
            F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).T / heat, torch.arange(len(q)), reduction="none")
            for q, k in zip(y[:, 0].split(n), y[:, 1].split(n))]).mean()
    if kind == "dice":
        return kind, {}, "sigmoid", [c], hard, lambda y, t: (1 - (2 * (y * t).sum(1) + 1) / (y.sum(1) + t.sum(1) + 1)).mean()
    alpha, gamma = r.choice([0.25, 0.6]), r.choice([2.0, 1.5])

    def focal(y, t):
        p = torch.sigmoid(y)
        p_t = p * t + (1 - p) * (1 - t)
        plain = F.binary_cross_entropy_with_logits(y, t, reduction="none")
        return ((alpha * t + (1 - alpha) * (1 - t)) * plain * (1 - p_t) ** gamma).mean()
    return "focal", dict(alpha=alpha, gamma=gamma), None, [c], hard, focal
