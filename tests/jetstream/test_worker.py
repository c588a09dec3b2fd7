"""Delivering what waits in a stream of a real NATS server."""

from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path

import pytest
from werkzeug import Response

from tests.jetstream.support import Gateway, Stream, WorkerProcess, gateway, held
from tests.servers.nats import NatsServer
from tests.support import free_port, wait_until


def test_a_message_is_delivered_to_its_flow_and_acknowledged(stream: Stream, functions: Gateway) -> None:
    stream.put(b"hello", flow="orders", request_id="o-1")
    with stream.worker(functions):
        stream.wait_for_empty()

    assert functions.seen == [("/function/orders/flow/o-1/forward", b"hello")]


@pytest.mark.parametrize(
    ("flow", "id", "target"),
    [
        ("flow.team", "r1", "/function/flow.team/flow/r1/forward"),
        ("flow", "a b/ü", "/function/flow/flow/-/forward?id=a%20b%2F%C3%BC"),
        ("f" * 200, "r1", f"/function/{'f' * 200}/flow/r1/forward"),
    ],
)
def test_flows_and_requests_may_have_any_name(
    stream: Stream, functions: Gateway, flow: str, id: str, target: str
) -> None:
    stream.put(b"", flow=flow, request_id=id)
    with stream.worker(functions):
        stream.wait_for_empty()

    assert [path for path, _ in functions.seen] == [target]


def test_flows_are_found_also_when_they_come_up_later(stream: Stream, functions: Gateway) -> None:
    with stream.worker(functions):
        stream.put(b"1", flow="one")
        stream.wait_for_empty()
        stream.put(b"2", flow="two")
        stream.wait_for_empty()

    assert functions.bodies == [b"1", b"2"]


def test_only_the_flows_that_are_named_are_delivered_to(stream: Stream, functions: Gateway) -> None:
    stream.put(b"1", flow="other")
    with stream.worker(functions, "mine"):
        stream.put(b"2", flow="mine")
        wait_until(lambda: functions.seen, "the delivery")

    assert functions.bodies == [b"2"]
    assert stream.server.messages(stream.name) == 1


@pytest.mark.parametrize("status", [302, 408, 429, 500, 502, 503])
def test_a_delivery_that_another_time_may_be_answered_2xx_comes_again(stream: Stream, status: int) -> None:
    answers = iter([status, status, 200])
    stream.put(b"hello")
    with gateway(lambda path, body: next(answers)) as functions, stream.worker(functions):
        stream.wait_for_empty()

    assert functions.bodies == [b"hello"] * 3
    assert functions.numbers == [None, "2", "3"]


@pytest.mark.parametrize("status", [400, 401, 404, 413])
def test_a_delivery_that_was_answered_4xx_ends_the_message(stream: Stream, status: int) -> None:
    stream.put(b"hello")
    with gateway(lambda path, body: status) as functions, stream.worker(functions):
        stream.wait_for_empty()

    assert functions.bodies == [b"hello"]


def test_a_gateway_that_is_away_is_tried_again(stream: Stream) -> None:
    away = Gateway(url=f"http://127.0.0.1:{free_port()}")
    stream.put(b"hello")
    with stream.worker(away):
        wait_until(lambda: stream.server.messages(stream.name) == 1, "the stream to be looked at")
    with gateway() as functions, stream.worker(functions):
        stream.wait_for_empty()

    assert functions.bodies == [b"hello"]


def test_the_wait_that_a_flow_asks_for_is_kept(stream: Stream) -> None:
    times: list[float] = []

    def answer(path: str, body: bytes) -> Response | int:
        times.append(time.monotonic())
        return Response(status=503, headers={"Retry-After": "1"}) if len(times) == 1 else 200

    stream.put(b"hello")
    with gateway(answer) as functions, stream.worker(functions, ack_wait=30.0):
        stream.wait_for_empty()

    assert 0.9 < times[1] - times[0] < 3.0


def test_messages_that_wait_for_another_try_do_not_hold_up_the_others(stream: Stream) -> None:
    stream.put(*[b"late"] * 40, b"now")

    def answer(path: str, body: bytes) -> Response | int:
        return Response(status=503, headers={"Retry-After": "60"}) if body == b"late" else 200

    with gateway(answer) as functions, stream.worker(functions, in_flight=2):
        wait_until(lambda: b"now" in functions.bodies, "the last one to be delivered")


def test_a_call_longer_than_the_deadline_is_delivered_once(stream: Stream) -> None:
    stream.put(b"long")
    answer = held(threading.Event(), 3.5)
    with gateway(answer) as functions, stream.worker(functions), stream.worker(functions):
        stream.wait_for_empty()

    assert functions.bodies == [b"long"]


def test_no_more_than_in_flight_deliveries_of_a_flow_run_at_a_time(stream: Stream) -> None:
    def answer(path: str, body: bytes) -> int:
        time.sleep(0.05)
        return 200

    stream.put(*(b"%d" % number for number in range(30)))
    with gateway(answer) as functions, stream.worker(functions, in_flight=3):
        stream.wait_for_empty()

    assert functions.most_at_once == 3
    assert len(functions.seen) == 30


def test_a_slow_flow_does_not_hold_up_another(stream: Stream) -> None:
    release = threading.Event()
    stream.put(b"slow", b"slow", flow="slow")
    with gateway(held(release, unless=b"fast")) as functions, stream.worker(functions, in_flight=1):
        wait_until(lambda: functions.seen, "the slow flow to be called")
        stream.put(b"fast", flow="fast")
        wait_until(lambda: b"fast" in functions.bodies, "the fast flow to be called")
        release.set()
        stream.wait_for_empty()


def test_two_workers_share_the_messages(stream: Stream) -> None:
    def answer(path: str, body: bytes) -> int:
        time.sleep(0.02)
        return 200

    stream.put(*(b"%d" % number for number in range(60)))
    with gateway(answer) as one, gateway(answer) as two, stream.worker(one), stream.worker(two):
        stream.wait_for_empty()

    assert sorted(one.bodies + two.bodies) == sorted(b"%d" % number for number in range(60))
    assert one.seen
    assert two.seen


def test_what_a_killed_worker_had_is_delivered_by_another(stream: Stream, functions: Gateway, run_worker) -> None:
    release = threading.Event()
    functions.answer = held(release)
    stream.put(b"hello")
    first = run_worker(stream)
    wait_until(lambda: functions.seen, "the delivery to begin", timeout=60)
    first.kill()
    release.set()
    run_worker(stream)
    stream.wait_for_empty()

    assert functions.bodies == [b"hello"] * 2


def test_a_worker_that_is_told_to_end_finishes_what_it_began(stream: Stream, functions: Gateway, run_worker) -> None:
    release = threading.Event()
    functions.answer = held(release)
    stream.put(b"1", b"2")
    worker = run_worker(stream, "--in-flight", "1")
    wait_until(lambda: functions.seen, "the delivery to begin", timeout=60)
    worker.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "Told to end" in worker.said, "the worker to hear it")
    release.set()

    assert worker.process.wait(timeout=20) == 0
    assert len(functions.seen) == 1
    wait_until(lambda: stream.server.messages(stream.name) == 1, "the one that was begun to be acknowledged")


def test_what_is_not_finished_in_time_is_given_back_at_once(stream: Stream) -> None:
    release = threading.Event()
    stream.put(b"hello")
    with gateway(held(release)) as functions:
        with stream.worker(functions, ack_wait=300.0, grace=0.1):
            wait_until(lambda: functions.seen, "the delivery to begin")
        with stream.worker(functions, ack_wait=300.0):
            wait_until(lambda: len(functions.seen) == 2, "the delivery by the other worker")
            release.set()
            stream.wait_for_empty()


def test_nothing_is_lost_when_the_server_is_killed(tmp_path: Path, run_server, functions: Gateway) -> None:
    server = run_server(NatsServer(tmp_path))
    own = Stream(server, "kept")
    own.put(*(b"%d" % number for number in range(50)))
    server.kill()
    server.start()
    with own.worker(functions):
        own.wait_for_empty()

    assert sorted(functions.bodies) == sorted(b"%d" % number for number in range(50))


def test_a_worker_outlives_its_server(tmp_path: Path, run_server, functions: Gateway) -> None:
    server = run_server(NatsServer(tmp_path))
    own = Stream(server, "kept")
    with own.worker(functions):
        own.put(b"before")
        own.wait_for_empty()
        server.kill()
        server.start()
        own.put(b"after")
        own.wait_for_empty()

    assert functions.bodies == [b"before", b"after"]


def test_a_worker_waits_for_a_server_that_is_not_up_yet(tmp_path: Path, run_server, functions: Gateway) -> None:
    server = NatsServer(tmp_path)
    with Stream(server, "later").worker(functions, "flow"):
        run_server(server)
        Stream(server, "later").put(b"hello")
        wait_until(lambda: functions.seen, "the delivery")


def test_a_message_that_is_no_forward_is_dropped_and_told(stream: Stream, functions: Gateway, caplog) -> None:
    import asyncio

    import nats

    async def publish() -> None:
        client = await nats.connect(stream.server.url)
        await client.jetstream().publish(stream.address.subject("flow"), b"?")
        await client.close()

    stream.put(b"hello")
    asyncio.run(publish())
    with stream.worker(functions):
        stream.wait_for_empty()

    assert functions.bodies == [b"hello"]
    assert "is no forward of a flow" in caplog.text


def test_the_log_names_the_flow_and_the_request_of_a_delivery_that_comes_again(
    stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("log_format", "json")
    answers = iter([500, 200])
    stream.put(b"hello", flow="orders", request_id="o-1")
    with gateway(lambda path, body: next(answers)) as functions:
        worker = WorkerProcess(tmp_path, stream.url, functions.url)
        stream.wait_for_empty()
        worker.terminate()
    [told] = [record for record in map(json.loads, worker.said.splitlines()) if "comes again" in record["message"]]

    assert (told["level"], told["flow"], told["request"]) == ("warning", "orders", "o-1")
    assert told["message"] == "Delivery 1 comes again: the flow answered 500"


def test_a_url_that_is_not_understood_ends_the_command(tmp_path: Path) -> None:
    worker = WorkerProcess(tmp_path, "gateway", "http://127.0.0.1:1")

    assert worker.process.wait(timeout=30) == 1
    assert "The NATS URL 'gateway' cannot be understood" in worker.said
