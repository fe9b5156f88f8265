"""A small convolutional network for 8×8 grey digits; the only class, as TorchServe asks."""

import torch
from torch import nn


class DigitsNet(nn.Module):
    """Two convolutions and a linear layer: 10 k parameters, ten logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.25),
            nn.Linear(32 * 4 * 4, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images ``[B, 1, 8, 8]`` in 0..1 to logits ``[B, 10]``."""
        logits: torch.Tensor = self.layers(images)
        return logits
