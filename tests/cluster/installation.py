"""A cluster on this machine: Consul, S3, a gateway that only passes calls on, and a flow in two processes of its own.

The processes are made as an image is: from the template's build folder, started by its `index.py`. Each test's flow is
found by name, so that one pair of processes serves them all: the handler asks a file which `define` is meant now.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import requests

from faasflow.engine.records import Failure
from faasflow.errors import RequestConflictError, RequestNotFoundError
from faasflow.local import Gateway
from faasflow.ports import DataStore, StateStore
from faasflow.stores import open_data_store, open_state_store
from faasflow.testing import Outcome, RequestState
from tests.cluster.stand_ins import StandIns
from tests.fundamentals.running import Call, Query, StandIn
from tests.support import wait_until
from tests.template.build_folder import ROOT, make_build_folder
from tests.template.serving import Served, serving

REPLICAS = 2
FLOW = "flow"

HANDLER = '''
"""The flow of whichever test runs now."""

import os
from importlib import import_module
from pathlib import Path


def define(flow, context):
    module, _, name = Path(os.environ["define_file"]).read_text().partition(":")
    getattr(import_module(module), name)(flow, context)
'''


class Cluster:
    """The parts of a cluster, started once and used by many flows. `url` is the gateway's."""

    def __init__(
        self,
        gateway: Gateway,
        stand_ins: StandIns,
        define_file: Path,
        replicas: Sequence[Served],
        state: StateStore,
        data: DataStore,
    ) -> None:
        self.gateway = gateway
        self.replicas = replicas
        self.stand_ins = stand_ins
        self.state = state
        self.data = data
        self._define_file = define_file

    @property
    def url(self) -> str:
        return self.gateway.url

    def run_flow(self, define: Callable[..., Any], functions: Mapping[str, StandIn]) -> ClusterFlow:
        """Let the processes serve `define`, which they must be able to import, with stores that hold nothing."""
        self.state.cleanup()
        self.data.cleanup()
        new = self._define_file.with_suffix(".new")
        new.write_text(f"{define.__module__}:{define.__qualname__}")
        new.replace(self._define_file)
        self.stand_ins.replace(functions)
        for name in functions:
            self.gateway.add_upstream(name, [self.stand_ins.url(name)])
        return ClusterFlow(self)


@contextmanager
def running_cluster(
    folder: Path, *, state_store: str, data_store: str, dispatcher: str = "gateway"
) -> Iterator[Cluster]:
    """Start everything but the stores, and end it with the block. With a URL for `dispatcher` messages between nodes go
    to that queue, which a worker has to empty."""
    handler, secrets = folder / "handler", folder / "secrets"
    for made in (handler, secrets):
        made.mkdir(parents=True)
    (handler / "handler.py").write_text(HANDLER)
    (secrets / "faasflow-hmac-secret").write_text("a key of the cluster's own")
    define_file = folder / "define"
    define_file.write_text("tests.cluster.installation:nothing")
    build = make_build_folder(handler, folder / "build")
    with ExitStack() as running:
        stand_ins = StandIns()
        running.callback(stand_ins.close)
        gateway = Gateway(None, state_dir=folder / "gateway", port=0)
        gateway.start()
        running.callback(gateway.stop)
        environment = {
            "gateway": gateway.url,
            "workflow_name": FLOW,
            "state_store": state_store,
            "data_store": data_store,
            "dispatcher": dispatcher,
            "max_body": str(128 * 1024 * 1024),
            "secret_mount_path": str(secrets),
            "define_file": str(define_file),
            "PYTHONPATH": str(ROOT),
            "healthcheck_interval": "0s",
            "HOME": os.environ.get("HOME", "/"),
        }
        replicas = [
            running.enter_context(serving(Path(sys.executable), build, environment, folder / f"replica-{number}.log"))
            for number in range(REPLICAS)
        ]
        gateway.add_upstream(FLOW, [replica.url for replica in replicas])
        state, data = open_state_store(state_store), open_data_store(data_store)
        running.callback(state.close)
        running.callback(data.close)
        yield Cluster(gateway, stand_ins, define_file, replicas, state, data)


def nothing(flow: Any, context: Any) -> None:
    """What is served until a test says what it wants."""
    flow.sync_node().modify(lambda data: data)


class ClusterFlow:
    """A flow that is used over HTTP only; see `tests.fundamentals.running.RunningFlow`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._flow = f"{cluster.url}/function/{FLOW}"

    def start(self, body: bytes = b"", *, query: Query | None = None, request_id: str = "", callback: str = "") -> str:
        headers = {"X-Faas-Flow-Reqid": request_id, "X-Faas-Flow-Callback-Url": callback}
        answer = requests.post(
            f"{self._flow}?{urlencode(query or {}, doseq=True)}",
            data=body,
            headers={name: value for name, value in headers.items() if value},
            timeout=120,
        )
        _raise_for(answer)
        return answer.headers["X-Faas-Flow-Reqid"]

    def wait(self, request_id: str) -> Outcome:
        story = wait_until(lambda: self._ended(request_id), f"request {request_id} to end or pause", timeout=60)
        failure = msgspec.convert(story["failure"], Failure) if story["failure"] else None
        nodes = sorted((node for node in story["nodes"] if "branches" not in node), key=lambda node: node["ended"])
        ran = [node["path"] for node in nodes]
        return Outcome(request_id, RequestState(story["state"]), self._result(request_id), failure, ran)

    def run(
        self, body: bytes = b"", *, query: Query | None = None, request_id: str = "", callback: str = ""
    ) -> Outcome:
        return self.wait(self.start(body, query=query, request_id=request_id, callback=callback))

    def pause(self, request_id: str) -> None:
        self._command(request_id, "pause")

    def resume(self, request_id: str) -> None:
        self._command(request_id, "resume")

    def stop(self, request_id: str) -> None:
        self._command(request_id, "stop")

    def state(self, request_id: str) -> RequestState:
        answer = requests.get(f"{self._path(request_id)}/state", timeout=30)
        _raise_for(answer)
        return RequestState(answer.text)

    def calls(self, name: str) -> list[Call]:
        return self._cluster.stand_ins.calls(name)

    def url(self, name: str) -> str:
        return self._cluster.stand_ins.url(name)

    def _path(self, request_id: str) -> str:
        return f"{self._flow}/flow/{quote(request_id, safe='')}"

    def _command(self, request_id: str, command: str) -> None:
        _raise_for(requests.post(f"{self._path(request_id)}/{command}", timeout=30))

    def _ended(self, request_id: str) -> dict[str, Any] | None:
        """The story of a request that has ended, with all that runs after its end, or has been paused and parked."""
        answer = requests.get(self._path(request_id), timeout=30)
        _raise_for(answer)
        story: dict[str, Any] = answer.json()
        recorded = {node["path"] for node in story["nodes"]}
        is_closed = story["state"] in ("FINISHED", "FAILED", "STOPPED") and recorded.issuperset(story["closing"])
        return story if is_closed or (story["state"] == "PAUSED" and story["parked"]) else None

    def _result(self, request_id: str) -> bytes | None:
        answer = requests.get(f"{self._path(request_id)}/result", timeout=30)
        if answer.status_code == 200:
            return answer.content
        is_our_own_text = answer.headers.get("Content-Type", "").startswith("application/json") and {
            "error",
            "request_id",
        } <= set(answer.json())
        return None if is_our_own_text else answer.content


def _raise_for(answer: requests.Response) -> None:
    errors = {404: RequestNotFoundError, 409: RequestConflictError}
    if answer.status_code in errors and not _is_stopped(answer):
        raise errors[answer.status_code](answer.json()["error"])


def _is_stopped(answer: requests.Response) -> bool:
    return answer.headers.get("X-Faas-Flow-State") == "STOPPED"
