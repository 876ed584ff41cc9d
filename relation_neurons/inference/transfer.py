"""Move small tensors to a GPU without waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor


def moved(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor on a device.

    What leaves pageable memory would wait until the GPU had done all its work, and the GPU would then wait for more.
    """
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
