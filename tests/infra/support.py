"""The manifests as a cluster would get them, and what else says how flows are deployed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
COMPOSE = INFRA / "compose.yaml"
PAGE = ROOT / "docs" / "deploying.md"
SECRETS = {"faasflow-hmac-secret": "sign", "s3-access-key": "access", "s3-secret-key": "secret"}
"""What a reader of the page makes, and what it holds in these tests."""

Resource = dict[str, Any]


def build(folder: Path, *, without: str = "") -> subprocess.CompletedProcess[str]:
    """What `kubectl kustomize` makes of the manifests in `folder`, a copy, with all secrets but the one `without`."""
    shutil.copytree(INFRA / "kubernetes", folder, ignore=shutil.ignore_patterns("secrets"))
    (folder / "secrets").mkdir()
    for name, value in SECRETS.items():
        if name != without:
            (folder / "secrets" / name).write_text(f"{value}\n")
    return subprocess.run([tool("kubectl"), "kustomize", str(folder)], capture_output=True, text=True)


def tool(name: str) -> str:
    """A program that the development tools bring."""
    return str(Path(sys.executable).with_name(name))


def pods(resources: list[Resource]) -> Iterator[tuple[str, Resource]]:
    """The name and the pod of everything that starts one."""
    for resource in resources:
        if "template" in resource.get("spec", {}):
            yield resource["metadata"]["name"], resource["spec"]["template"]["spec"]


@cache
def compose() -> Resource:
    """The Compose file."""
    content: Resource = yaml.safe_load(COMPOSE.read_text())
    return content


def flow_settings() -> dict[str, str]:
    """What flow.yml sets, and what it shows how to set behind a `#`."""
    rows = re.findall(r'^  (?:# )?([\w-]+): "(.*)"$', (ROOT / "flow.yml").read_text(), re.MULTILINE)
    return dict(rows)
