"""What runs in a TorchServe worker; the one place that imports ``ts``."""
