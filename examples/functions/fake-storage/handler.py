"""Stands in for a storage service: it logs what it would store, and keeps nothing. Language: python3-http."""


def handle(event, context):
    """A receipt for what was sent."""
    text = event.body.decode()
    print(f"fake-storage: {text}", flush=True)
    return {"body": f"stored: {text}"}
