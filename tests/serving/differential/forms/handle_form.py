"""A ``handle`` of its own over TorchServe's base class."""

from behaviour import Behaviour
from ts.torch_handler.base_handler import BaseHandler


class OwnHandle(Behaviour, BaseHandler):
    """Does its steps itself."""

    def handle(self, data, context):
        return self.answer_all(data, context)
