"""Answers the square of a whole number. Language: python3-http."""


def handle(event, context):
    """The square of the number that was sent, as text."""
    return {"body": str(int(event.body) ** 2)}
