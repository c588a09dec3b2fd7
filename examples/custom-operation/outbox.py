"""An operation of our own: it puts a message into an outbox, as another one would hand it to a broker."""

import os
import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

VARIABLE = "outbox"


class Publish:
    """Puts its data into the outbox, under `topic`, and hands it on. A node may run again after a crash: the same
    idempotency key is put there only once."""

    may_retry = True

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.name = f"publish to {topic}"
        self.properties = {"topic": topic}

    def run(self, data: str, context) -> str:
        with closing(sqlite3.connect(outbox())) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS outbox (key TEXT PRIMARY KEY, topic TEXT, message TEXT)")
            row = (context.idempotency_key, self.topic, data)
            database.execute("INSERT OR IGNORE INTO outbox VALUES (?, ?, ?)", row)
        return data


def outbox() -> Path:
    """The file of the outbox, which the environment names. Without it there is one for each process."""
    return Path(os.environ.get(VARIABLE) or Path(_new_folder()) / "outbox.db")


@cache
def _new_folder() -> str:
    return tempfile.mkdtemp(prefix="outbox-")
