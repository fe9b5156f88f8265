"""What all tests share: one thread per process, and an order that fails fast."""

import os

# Before torch is imported: nine workers on two cores must not become eighteen threads.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")


def pytest_collection_modifyitems(items):
    """Run tests that start a real TorchServe last: what is cheap to find is found first."""
    items.sort(key=lambda item: item.get_closest_marker("server") is not None)
