"""Templates of the files a hardened TorchServe is started with; package data."""
