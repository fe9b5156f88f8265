"""An object that can be called."""

from behaviour import Behaviour


class _Callable(Behaviour):
    def __call__(self, data, context):
        if data is None:
            return self.initialize(context)
        return self.answer_all(data, context)


handle = _Callable()
