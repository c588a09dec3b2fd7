"""Stands in for a storage service: it writes to its log what it would store, and keeps nothing. Language: python3."""

import sys


def handle(req):
    """A receipt for what was sent."""
    print(f"fake-storage: {req}", file=sys.stderr)
    return f"stored: {req}"
