"""The upload pipeline with its two halves side by side: faces are sought while the picture is coloured and shrunk.

The join is given both answers by the ids of the nodes, and lets the picture pass if it shows one face.
"""

import json


def define(flow, context):
    name = context.query.get("file", "")

    def check_name(image: bytes) -> bytes:
        if not name:
            raise ValueError("The picture has no name. Give ?file=<name>.")
        return image

    def portrait(results: dict[str, bytes]) -> bytes:
        faces = json.loads(results["detect-face"])["faces"]
        if len(faces) != 1:
            raise ValueError(f"{name!r} shows {len(faces)} faces. Send a portrait, which shows one.")
        return results["edit-image"]

    dag = flow.dag()
    dag.node("validate").modify(check_name)
    dag.node("detect-face").apply("face-detect")
    dag.node("edit-image").apply("colorization").apply("image-resizer")
    dag.node("upload", aggregator=portrait).apply("file-storage", query={"file": name})
    dag.edge("validate", "detect-face")
    dag.edge("validate", "edit-image")
    dag.edge("detect-face", "upload")
    dag.edge("edit-image", "upload")
