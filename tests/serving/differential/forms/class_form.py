"""A class of no base with initialize and handle."""

from behaviour import Behaviour


class Whole(Behaviour):
    """Does everything in handle."""

    def handle(self, data, context):
        return self.answer_all(data, context)
