"""Answers `func2(<body>)`: stands in for any function that does something to its input. Language: python3-flask."""


def handle(req):
    """What was sent, wrapped so that the order of calls can be read from the result."""
    return f"func2({req})"
