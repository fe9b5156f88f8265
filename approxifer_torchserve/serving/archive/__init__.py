"""Wraps a model into a coded archive."""
