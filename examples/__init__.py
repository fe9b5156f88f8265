"""Worked examples that the docs name; installed with the package, which never needs them."""
