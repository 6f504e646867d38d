"""Random numbers for networks of which every layer, norm and bias should show in the results."""

import torch


@torch.no_grad()
def randomise(model, scale=1.0):
    """Matrices keep the size of what passes through them, times `scale`."""
    for name, tensor in model.named_parameters():
        if tensor.dim() == 1 and ("norm" in name or "ln_" in name):
            tensor.copy_(torch.randn_like(tensor) * 0.2 + (1 if name.endswith("weight") else 0))
        elif "embedding" in name:
            tensor.copy_(torch.randn_like(tensor) * 0.3)
        elif tensor.dim() == 1:
            tensor.copy_(torch.randn_like(tensor) * 0.1)
        elif tensor.dim() > 1:
            tensor.copy_(torch.randn_like(tensor) * scale / tensor.flatten(1).shape[1] ** 0.5)
