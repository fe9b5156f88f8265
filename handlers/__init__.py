"""TorchServe entry files, shipped as package data and copied into archives."""
