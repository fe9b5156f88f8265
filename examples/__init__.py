"""Worked examples, installed with the package so that `approxifer demo` runs anywhere."""
