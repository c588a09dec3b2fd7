"""What `faasflow doctor` can say of a flow that runs behind a gateway, from outside of its container."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from faasflow.cli.unreadable import unreadable_of
from faasflow.errors import FaasflowError
from faasflow.runtime.checks import Check, Verdict, check_gateway, check_unreadable

if TYPE_CHECKING:
    from faasflow.cli.remote import Remote
    from faasflow.config import Settings
    from faasflow.local.state import StateDir

_PATIENCE = 10.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def is_deployed(gateway: Settings, state: StateDir) -> bool:
    """Whether a flow runs behind this gateway and not under `faasflow up`: it is on another machine, or it answers
    while `faasflow up` never ran here."""
    if urlsplit(gateway.gateway).hostname not in _LOOPBACK:
        return True
    return not state.secrets.is_dir() and all(check.verdict is not Verdict.BAD for check in check_gateway(gateway))


def check_deployed(name: str, gateway: Settings) -> Iterator[Check]:
    """Whether the gateway answers, and the flow behind it is ready and its clock runs."""
    from faasflow.cli.remote import Remote

    checks = list(check_gateway(gateway))
    yield from checks
    if any(check.verdict is Verdict.BAD for check in checks):
        return
    remote = Remote(gateway.gateway)
    try:
        yield from _flow_checks(name, remote)
    except FaasflowError as error:
        yield Check("flow", Verdict.BAD, error.message, error.hint)
    finally:
        remote.close()


def _flow_checks(name: str, remote: Remote) -> Iterator[Check]:
    ready = remote.call(name, "/_/ready", method="GET", timeout=_PATIENCE)
    if ready.status_code == 404:
        found = f"the gateway has no function {name!r}."
        yield Check("flow", Verdict.BAD, found, "Deploy it with faas-cli, or name another gateway with --gateway.")
        return
    if not ready.ok:
        said = " ".join(ready.text.split())[:200]
        found = f"{name} is not ready: /_/ready answered {ready.status_code}: {said}"
        yield Check("flow", Verdict.BAD, found, f"See: faasflow logs {name}")
        return
    yield Check("flow", Verdict.GOOD, f"{name} is ready")
    for line in remote.read(name, "/_/health", timeout=_PATIENCE).text.strip().split("\n")[1:]:
        is_skew = line.startswith("time:")
        yield Check("time" if is_skew else "clock", Verdict.WARNING if is_skew else Verdict.BAD, line, "")
    if names := _unreadable(name, remote):
        yield check_unreadable(name, names)
    yield Check(
        "stores, secrets and timeouts",
        Verdict.WARNING,
        "can only be checked inside the function.",
        f"In Kubernetes: kubectl exec -n openfaas-fn deploy/{name} -- python -m faasflow.cli doctor",
    )


def _unreadable(name: str, remote: Remote) -> list[str]:
    """What the flow cannot read; nothing where it does not tell, such as one that answers signed requests only."""
    try:
        return [row["request_id"] or row["key"] for row in unreadable_of(remote, name, timeout=_PATIENCE)]
    except FaasflowError:
        return []
