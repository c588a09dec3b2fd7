"""Keeps files in the folder `storage_dir` of the environment, by the name in the query. Language: python3-http.

Stands in for a bucket: in a cluster the folder is one container's own and is gone with it. Without `storage_dir` it is
a new one of each process, for its owner alone.
"""

import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path

FOLDER = "storage_dir"


def handle(event, context):
    """`{"file", "bytes", "sha256"}` of what was stored, or 400 where the name cannot be one."""
    name = event.query.get("file", "")
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        return {"statusCode": 400, "body": f"{name!r} cannot be a file name. Give ?file=<name>."}
    store(folder() / name, event.body)
    digest = hashlib.sha256(event.body).hexdigest()
    return {"statusCode": 200, "body": {"file": name, "bytes": len(event.body), "sha256": digest}}


def folder():
    """Where the files are."""
    return Path(os.environ.get(FOLDER) or new_folder())


@cache
def new_folder():
    """In a folder that all users share, a name that can be guessed could be somebody else's."""
    return tempfile.mkdtemp(prefix="faasflow-files-")


def store(path, data):
    """The whole file or none of it: a reader never sees half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as half:
        half.write(data)
    os.replace(half.name, path)
