"""The three steps, called one by one by TorchServe's own ``handle``."""

from behaviour import Behaviour
from ts.torch_handler.base_handler import BaseHandler


class Steps(Behaviour, BaseHandler):
    """As most handlers are."""
