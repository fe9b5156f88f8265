"""TorchServe processes, and clients of their APIs."""
