"""The entry file of a coded archive: TorchServe loads it, it loads the user's handler."""

try:
    from approxifer_torchserve.serving.worker.torchserve import (
        ApproxiferService,
        take_over_envelopes,
    )
except ImportError as error:
    # Not an ImportError: TorchServe would look for a default handler of this name and say so.
    raise RuntimeError(
        "this model needs the package approxifer-torchserve in the Python that runs TorchServe's "
        f"workers (pip install approxifer-torchserve): {error}"
    ) from error

take_over_envelopes()


class ApproxiferHandler(ApproxiferService):
    """The one class TorchServe looks for in this file."""
