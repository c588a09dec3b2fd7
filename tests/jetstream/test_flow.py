"""A whole flow over JetStream, while the worker is killed and the server is started anew in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from werkzeug import Request, Response

from faasflow.config import Settings
from faasflow.engine.lifecycle import RequestState
from faasflow.http import create_app
from faasflow.runtime import Handler, SystemClock, build_engine
from faasflow.runtime.ticker import Ticker
from faasflow.transport.jetstream import JetStreamTransport
from faasflow.transport.openfaas import OpenFaasTransport
from tests.http.support import served
from tests.jetstream.support import Stream, WorkerProcess
from tests.servers.nats import NatsServer
from tests.support import wait_until

WORDS = "one two three four five"
REQUESTS = 12
NODES = ["begin", "count", "each", *(f"each/upper@{number}" for number in range(5)), "end"]


def words(data: str) -> dict[str, str]:
    return {f"{number}": word for number, word in enumerate(data.split())}


def define(flow: Any, context: Any) -> None:
    dag = flow.dag()
    dag.node("begin").modify(lambda data: data)
    dag.foreach_branch("each", words, aggregator=lambda found: b" ".join(found.values())).node("upper").apply("upper")
    dag.node("count").modify(lambda data: str(len(data.split())))
    dag.node("end", aggregator=lambda inputs: inputs["count"] + b": " + inputs["each"])
    for middle in ("each", "count"):
        dag.edge("begin", middle)
        dag.edge(middle, "end")


class Site:
    """A flow with its stores in a file, the function that it calls, and the gateway before both, in this process. Its
    clock repeats what the server did not take."""

    def __init__(self, folder: Path, stream: Stream, url: str) -> None:
        self.url = url
        store = f"sqlite://{folder}/flow.db"
        settings = Settings(state_store=store, data_store=store, flow="pipeline", gateway=self.url)
        self.transport = JetStreamTransport(OpenFaasTransport(self.url), stream.address, timeout=1.0)
        self.engine = build_engine(Handler(define=define), settings, transport=self.transport)
        self._app = create_app(self.engine, settings=settings)
        self.clock = Ticker(interval=1.0, clock=SystemClock())
        self.clock.add(self.engine)
        self.clock.start()

    def __call__(self, environ: Any, start_response: Any) -> Any:
        _, _, name, *path = environ["PATH_INFO"].split("/", 3)
        if name == "upper":
            return Response(Request(environ).get_data().upper())(environ, start_response)
        own = {
            "PATH_INFO": "/" + "".join(path),
            "REQUEST_URI": environ["REQUEST_URI"].removeprefix("/function/pipeline"),
        }
        return self._app(environ | own, start_response)

    def start(self, request_id: str) -> str:
        """Start a request as a client does that does not know whether its call came through."""
        wait_until(lambda: self._is_taken(request_id), f"request {request_id} to be taken", timeout=60)
        return request_id

    def story(self, request_id: str) -> Any:
        return requests.get(f"{self.url}/function/pipeline/flow/{request_id}", timeout=30).json()

    def ended(self) -> int:
        rows = requests.get(f"{self.url}/function/pipeline/flow?limit=1000", timeout=30).json()["requests"]
        return sum(row["state"] == RequestState.FINISHED for row in rows)

    def result(self, request_id: str) -> str:
        return requests.get(f"{self.url}/function/pipeline/flow/{request_id}/result", timeout=30).text

    def _is_taken(self, request_id: str) -> bool:
        headers = {"X-Faas-Flow-Reqid": request_id}
        answer = requests.post(f"{self.url}/function/pipeline/", data=WORDS, headers=headers, timeout=30)
        assert answer.status_code in (202, 503), answer.text
        return answer.status_code == 202


@pytest.fixture
def own_stream(tmp_path: Path, run_server) -> Stream:
    return Stream(run_server(NatsServer(tmp_path / "nats")), "faasflow")


@pytest.fixture
def site(tmp_path: Path, own_stream: Stream) -> Iterator[Site]:
    sites: list[Site] = []
    with served(lambda environ, start_response: sites[0](environ, start_response), threads=32) as client:
        sites.append(Site(tmp_path, own_stream, f"http://127.0.0.1:{client.port}"))
        yield sites[0]
        sites[0].clock.stop()
        sites[0].transport.close()


def test_a_flow_ends_once_while_the_worker_is_killed_and_the_server_is_started_anew(
    site: Site, own_stream: Stream, tmp_path: Path
) -> None:
    worker = WorkerProcess(tmp_path, own_stream.url, site.url, "--in-flight", "4")
    ids = [site.start(f"request-{number}") for number in range(REQUESTS // 2)]
    wait_until(lambda: site.ended() >= 1, "the first request to end", timeout=60)
    worker.kill()
    own_stream.server.kill()
    own_stream.server.start()
    ids += [site.start(f"request-{number}") for number in range(REQUESTS // 2, REQUESTS)]
    worker = WorkerProcess(tmp_path, own_stream.url, site.url, "--in-flight", "4")
    before = site.ended()
    wait_until(lambda: site.ended() > before, "another request to end", timeout=60)
    own_stream.server.kill()
    own_stream.server.start()
    wait_until(lambda: site.ended() == REQUESTS, "every request to end", timeout=120)
    own_stream.wait_for_empty()

    assert worker.terminate() == 0
    assert {site.result(id) for id in ids} == {"5: ONE TWO THREE FOUR FIVE"}
    for id in ids:
        recorded = Counter((node["path"], "branches" in node) for node in site.story(id)["nodes"])
        assert recorded == dict.fromkeys([*((path, False) for path in NODES), ("each", True)], 1)
