"""Answers the square of a whole number. Language: python3."""


def handle(req):
    """The square of the number that was sent, as text."""
    return str(int(req) ** 2)
