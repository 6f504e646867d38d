"""Muon for the 2-D matrices of the blocks, AdamW for the rest.

Muon (Jordan et al., 2024) steps along the orthogonal matrix nearest to the momentum; the step is
scaled to the size of an AdamW step (Liu et al., 2025), so both use the same learning rate scale.
"""

import torch


def orthogonal(x, rounds=5):
    """Approximates U V^T of each matrix [batch, rows <= columns, ...] by Newton and Schulz's iteration."""
    x = x.bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(rounds):
        square = x @ x.mT
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return x.float()


class Muon:
    """Steps all matrices of one shape together; a tall one is updated as its transpose."""

    def __init__(self, matrices, momentum=0.95, decay=0.1):
        self.momentum, self.decay = momentum, decay
        self.groups = {}
        for parameter, parts in matrices:
            rows, columns = parameter.shape[0] // parts, parameter.shape[1]
            self.groups.setdefault((rows, columns), []).append((parameter, parts))
        self.state = {
            shape: torch.zeros(sum(parts for _, parts in group), *shape)
            for shape, group in self.groups.items()
        }

    @torch.no_grad()
    def step(self, rate):
        """One step at a learning rate."""
        for shape, group in self.groups.items():
            gradient = torch.cat([p.grad.view(parts, *shape) for p, parts in group])
            average = self.state[shape]
            average.lerp_(gradient, 1 - self.momentum)
            ahead = gradient.lerp(average, self.momentum)
            tall = shape[0] > shape[1]
            update = orthogonal(ahead.mT if tall else ahead)
            update = (update.mT if tall else update) * (0.2 * max(shape) ** 0.5)
            at = 0
            for parameter, parts in group:
                parameter.mul_(1 - rate * self.decay)
                parameter.view(parts, *shape).sub_(update[at : at + parts], alpha=rate)
                at += parts


def split(model):
    """(matrices for Muon with the number stacked in each, other parameters with weight decay, the rest)."""
    matrices, decayed, plain = [], [], []
    for name, parameter in model.named_parameters():
        if "resblocks" in name and parameter.ndim == 2:
            matrices.append((parameter, 3 if name.endswith("in_proj_weight") else 1))
        elif parameter.ndim >= 2 and "positional" not in name:
            decayed.append(parameter)
        else:
            plain.append(parameter)
    return matrices, decayed, plain
