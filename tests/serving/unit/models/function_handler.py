"""Functions instead of a class."""

started = []


def handle(data, context):
    if data is None:
        started.append(context.model_name)
        return None
    return [f"{started[0]}: {row['body']}" for row in data]


def shout(data, context):
    if data is None:
        return None
    return [row["body"].upper() for row in data]
