"""Answers `func1(<body>)`: stands in for any function that does something to its input. Language: python3-http."""


def handle(event, context):
    """What was sent, wrapped so that the order of calls can be read from the result."""
    return b"func1(" + event.body + b")"
