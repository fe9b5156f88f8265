"""Archives, TorchServe processes, and what a worker runs."""
