"""Coded, straggler-tolerant serving of PyTorch models on TorchServe."""

__version__ = "0.1.0"
