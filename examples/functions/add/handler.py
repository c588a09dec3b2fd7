"""Answers the sum of whole numbers, separated by commas. Language: python3-flask."""


def handle(req):
    """The sum as text, or 400 and the reason."""
    try:
        return str(sum(int(number) for number in req.split(",") if number.strip()))
    except ValueError as error:
        return f"Send whole numbers separated by commas: {error}", 400
