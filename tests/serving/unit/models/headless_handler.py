"""Keeps its network under a name of its own, beside a model that it never calls."""

from png_handler import PngHandler


class HeadlessHandler(PngHandler):
    def initialize(self, context):
        super().initialize(context)
        self.net, self.model = self.model, type(self.model)(64, 5)

    def inference(self, data):
        return self.net(data).detach()
