"""Halves a colour image (binary PPM): every pixel of the answer is the mean of four. Language: python3-http."""

import re

HEADER = re.compile(rb"P6(?:\s|#.*\n)+(\d+)(?:\s|#.*\n)+(\d+)(?:\s|#.*\n)+255\s")


def handle(event, context):
    """The smaller image, or 400 for what is not a colour image. An odd last row or column is dropped."""
    header = HEADER.match(event.body)
    if header is None:
        return {"statusCode": 400, "body": "Send a binary PPM image (P6) with 255 shades."}
    width, height = int(header[1]), int(header[2])
    pixels = halve(event.body[header.end() :], width, height)
    smaller = b"P6\n%d %d\n255\n" % (width // 2, height // 2) + pixels
    return smaller, 200, {"Content-Type": "image/x-portable-pixmap"}


def halve(pixels, width, height):
    """The mean of each square of two by two pixels, colour by colour."""
    line = 3 * width
    corners = (
        row * line + 3 * column + colour
        for row in range(0, height - 1, 2)
        for column in range(0, width - 1, 2)
        for colour in range(3)
    )
    return bytes(
        (pixels[place] + pixels[place + 3] + pixels[place + line] + pixels[place + line + 3]) // 4 for place in corners
    )
