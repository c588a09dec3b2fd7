"""Stands in for a face detector: it takes every bright patch of a grey image (binary PGM) for a face.

It reads the bytes of an image, finds patches of connected pixels and says where they are; it has never heard of noses.
Language: python3-http.
"""

import re

BRIGHT = 200
SMALLEST = 16  # pixels; less is noise
HEADER = re.compile(rb"P5(?:\s|#.*\n)+(\d+)(?:\s|#.*\n)+(\d+)(?:\s|#.*\n)+255\s")


def handle(event, context):
    """`{"faces": [{"left", "top", "right", "bottom"}]}`, or 400 for what is not an image."""
    header = HEADER.match(event.body)
    if header is None:
        return {"statusCode": 400, "body": "Send a binary PGM image (P5) with 255 shades."}
    width, height = int(header[1]), int(header[2])
    pixels = event.body[header.end() :]
    if len(pixels) != width * height:
        return {"statusCode": 400, "body": f"{width}x{height} pixels were announced, {len(pixels)} were sent."}
    return {"statusCode": 200, "body": {"faces": [box(patch, width) for patch in patches(pixels, width)]}}


def patches(pixels, width):
    """The sets of bright pixels that touch each other, without the small ones."""
    left = {place for place, shade in enumerate(pixels) if shade >= BRIGHT}
    found = []
    while left:
        patch, edge = set(), [min(left)]
        while edge:
            place = edge.pop()
            if place in left:
                left.remove(place)
                patch.add(place)
                edge += neighbours(place, width)
        if len(patch) >= SMALLEST:
            found.append(patch)
    return found


def neighbours(place, width):
    """The places above, below, left and right; those beyond the image are in nobody's set."""
    row = place // width
    beside = [other for other in (place - 1, place + 1) if other // width == row]
    return [place - width, place + width, *beside]


def box(patch, width):
    """The rectangle around a patch."""
    columns, rows = [place % width for place in patch], [place // width for place in patch]
    return {"left": min(columns), "top": min(rows), "right": max(columns), "bottom": max(rows)}
