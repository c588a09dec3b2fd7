"""Stands in for a colouring network: it gives a grey image (binary PGM) a sepia tone (binary PPM).

Language: python3-http.
"""

import re

SEPIA = (1.0, 0.86, 0.67)  # how much of the grey stays in red, green and blue
HEADER = re.compile(rb"P5(?:\s|#.*\n)+(\d+)(?:\s|#.*\n)+(\d+)(?:\s|#.*\n)+255\s")


def handle(event, context):
    """The image in colour, or 400 for what is not a grey image."""
    header = HEADER.match(event.body)
    if header is None:
        return {"statusCode": 400, "body": "Send a binary PGM image (P5) with 255 shades."}
    colours = [bytes(round(grey * share) for share in SEPIA) for grey in range(256)]
    pixels = b"".join(colours[grey] for grey in event.body[header.end() :])
    return b"P6\n%s %s\n255\n" % (header[1], header[2]) + pixels, 200, {"Content-Type": "image/x-portable-pixmap"}
