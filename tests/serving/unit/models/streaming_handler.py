"""Sends parts of an answer."""

from ts.handler_utils.utils import send_intermediate_predict_response
from ts.torch_handler.base_handler import BaseHandler


class Streaming(BaseHandler):
    def inference(self, data):
        send_intermediate_predict_response(["a"], {0: "x"}, "", 200, self.context)
        return data
