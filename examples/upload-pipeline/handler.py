"""Checks a portrait for exactly one face, colours and shrinks it, and stores it under the name in the query.

Shows the context: the check hands on the image that was received, not its own answer, and the end removes that copy. A
picture that is not a portrait fails the flow, and the caller is told why as JSON.
"""

import json
import logging
from dataclasses import dataclass

log = logging.getLogger(__name__)


@dataclass
class Detection:
    """The answer of `face-detect`."""

    faces: list[dict]


def define(flow, context):
    name = context.query.get("file", "")

    def receive(image: bytes) -> bytes:
        if not name:
            raise ValueError("The picture has no name. Give ?file=<name>.")
        context.set("image", image)
        return image

    def one_face(detection: Detection) -> bytes:
        if len(detection.faces) != 1:
            raise ValueError(f"{name!r} shows {len(detection.faces)} faces. Send a portrait, which shows one.")
        return context.get("image")

    def explain(error) -> str:
        log.warning("Request %s did not store %r: %s", context.request_id, name, error)
        return json.dumps({"file": name, "error": str(error)})

    dag = flow.dag()
    dag.node("receive").modify(receive)
    dag.node("check").apply("face-detect").modify(one_face)
    dag.node("edit").apply("colorization").apply("image-resizer")
    dag.node("store").apply("file-storage", query={"file": name})
    dag.edge("receive", "check")
    dag.edge("check", "edit")
    dag.edge("edit", "store")

    flow.on_failure(explain)
    flow.finally_(lambda state: context.delete("image"))
