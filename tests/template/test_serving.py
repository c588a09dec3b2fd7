"""From a build folder, with nothing installed but the template's requirements, index.py serves the flow."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from faasflow.local import Gateway
from tests.support import wait_until
from tests.template.build_folder import ROOT, TEMPLATE
from tests.template.serving import Served

Serve = Callable[..., Served]
SAMPLE = TEMPLATE / "function"

ONE_CALL = """
def define(flow, context):
    flow.sync_node().apply("slow")
"""

# Imported by Python before index.py: notes every file that it, or what it imports, opens to write.
NOTE_WRITES = """
import os, sys

notes = os.open({notes!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
CHANGES = {{"os.mkdir", "os.rename", "os.link", "os.symlink", "sqlite3.connect"}}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT

def note(event, arguments):
    if event in CHANGES or (event == "open" and arguments[2] & WRITES):
        if isinstance(arguments[0], (str, bytes)):
            os.write(notes, os.fsencode(os.path.abspath(arguments[0])) + b"\\n")

sys.addaudithook(note)
"""


def test_the_sample_flow_says_back_what_was_sent(serve: Serve, gateway: Gateway) -> None:
    serve(SAMPLE)

    answer = requests.post(f"{gateway.url}/function/flow", data=b"hello", timeout=10)

    assert (answer.status_code, answer.content) == (200, b'you said "hello"')


def test_a_body_of_unknown_length_arrives_whole(serve: Serve) -> None:
    served = serve(SAMPLE)
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)

    connection.request("POST", "/", body=iter([b"in ", b"three ", b"parts"]), encode_chunked=True)
    answer = connection.getresponse()

    assert (answer.status, answer.read()) == (200, b'you said "in three parts"')
    connection.close()


def test_a_chain_of_nodes_runs_through_the_gateways_queue(
    serve: Serve, gateway: Gateway, httpserver: HTTPServer
) -> None:
    for name in ("func1", "func2", "fake-storage"):
        httpserver.expect_request(f"/{name}/").respond_with_handler(says_its_name)
        gateway.add_upstream(name, [httpserver.url_for(f"/{name}")])
    serve(ROOT / "examples" / "async-chain", name="async-chain")

    answer = requests.post(f"{gateway.url}/function/async-chain?wait=30s", data=b"in", timeout=40)

    assert (answer.status_code, answer.content) == (200, b"fake-storage(modifier(func2(func1(in))))")


def test_it_is_healthy_and_ready(serve: Serve) -> None:
    served = serve(SAMPLE)

    assert served.get_status("/_/health") == 200
    assert served.get_status("/_/ready") == 200


def test_a_request_in_flight_is_answered_after_sigterm(
    serve: Serve, gateway: Gateway, httpserver: HTTPServer, tmp_path: Path
) -> None:
    called, release = threading.Event(), threading.Event()
    httpserver.expect_request("/slow/").respond_with_handler(holding(called, release))
    gateway.add_upstream("slow", [httpserver.url_for("/slow")])
    served = serve(handler_of(ONE_CALL, tmp_path / "handler"))

    with ThreadPoolExecutor() as threads:
        answer = threads.submit(requests.post, served.url, data=b"x", timeout=30)
        assert called.wait(20)
        served.terminate()
        wait_until(lambda: not accepts(served), "index.py to take no more requests")
        release.set()

        assert (answer.result().status_code, answer.result().content) == (200, b"at last")
    assert served.process.wait(20) == 0


def test_it_writes_nowhere_but_to_its_store_and_the_temporary_folder(
    serve: Serve, tmp_path: Path, gateway: Gateway
) -> None:
    notes = tmp_path / "notes"
    (tmp_path / "tmp").mkdir()
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(NOTE_WRITES.format(notes=str(notes)))
    settings = {"PYTHONPATH": str(tmp_path / "hook"), "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(tmp_path / "tmp")}
    served = serve(SAMPLE, **settings)

    requests.post(served.url, data=b"x" * 2_000_000, timeout=20).raise_for_status()
    served.terminate()
    assert served.process.wait(20) == 0

    written = {Path(line) for line in notes.read_text().splitlines()}
    allowed = (tmp_path / "flow" / "state", tmp_path / "tmp", Path("/dev"))
    assert any(path.is_relative_to(allowed[0]) for path in written)
    assert [path for path in written if not any(path.is_relative_to(folder) for folder in allowed)] == []


def says_its_name(request: Request) -> Response:
    return Response(request.path.strip("/").encode() + b"(" + request.get_data() + b")")


def holding(called: threading.Event, release: threading.Event) -> Callable[[Request], Response]:
    def answer(_request: Request) -> Response:
        called.set()
        release.wait(20)
        return Response(b"at last")

    return answer


def handler_of(code: str, folder: Path) -> Path:
    folder.mkdir()
    (folder / "handler.py").write_text(code)
    return folder


def accepts(served: Served) -> bool:
    try:
        return served.get_status("/_/health", timeout=0.5) == 200
    except OSError:
        return False
