"""A flow on a gateway of the laptop, for the scripts beside this one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from faasflow.cli.remote import SIGNATURE, Remote, Signer
from faasflow.config import HMAC_SECRET
from faasflow.local import Gateway, load_stack

FLOW = "workflow"


@contextmanager
def serving(
    files: Mapping[str, str], *, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[Gateway, Remote]]:
    """A gateway that serves the flow `FLOW`, whose folder has `files`, and how to call it. At the end both are gone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / FLOW).mkdir()
        for file, text in files.items():
            (folder / FLOW / file).write_text(text)
        flow = {"lang": "faas-flow", "handler": f"./{FLOW}", "environment": dict(environment or {})}
        stack = {"version": 1.0, "provider": {"name": "openfaas"}, "functions": {FLOW: flow}}
        (folder / "stack.yml").write_text(yaml.safe_dump(stack))
        gateway = Gateway(load_stack(folder / "stack.yml"), state_dir=folder / "state", port=0)
        gateway.start()
        try:
            key = (folder / "state" / "secrets" / HMAC_SECRET).read_bytes()
            yield gateway, Remote(gateway.url, signer=Signer(SIGNATURE, key))
        finally:
            gateway.stop(grace=2)
