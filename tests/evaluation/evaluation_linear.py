"""A model by name that is linear, ``--model evaluation_linear:Linear``."""

import torch
from torch import nn


class Linear(nn.Module):
    """Images ``[B, 1, 4, 4]`` to three logits; it is its own perfect parity."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.flat, self.last = nn.Flatten(), nn.Linear(16, 3, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(self.flat(images))
