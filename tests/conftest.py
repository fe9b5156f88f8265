"""What all tests share: one thread per process, and an order that fails fast."""

import os

from hypothesis import HealthCheck, settings

# Before torch is imported: nine workers on two cores must not become eighteen threads.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

# No limit on an example's time, nor on making one: they say how busy the machine is.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples every time, so that CI judges the change and not the draw.
settings.register_profile("same", settings.get_profile("steady"), derandomize=True)
settings.load_profile("steady")


def _rank(item):
    folders = item.path.parts
    # tests/serving/live keeps one server for its whole session, so it comes last of all: then no
    # two servers ever run at once.
    if "live" in folders:
        return 3
    if "alone" in folders:
        return 2
    return 1 if item.get_closest_marker("server") else 0


def pytest_collection_modifyitems(items):
    """Run tests that start a real TorchServe last: what is cheap to find is found first."""
    items.sort(key=_rank)
