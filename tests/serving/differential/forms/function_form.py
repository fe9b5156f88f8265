"""A function; what it keeps lies in its module."""

from behaviour import Behaviour

_kept = Behaviour()


def handle(data, context):
    if data is None:
        return _kept.initialize(context)
    return _kept.answer_all(data, context)
