"""Handwritten digits (scikit-learn, 8×8): a model, its training and a TorchServe handler."""
