"""What the process of a flow writes, seen through a gateway."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest
import requests

from tests.logs.conftest import Stack
from tests.support import wait_until

TWO_NODES = """
    import logging, sys
    print("imported")
    log = logging.getLogger("mine")
    log.info("ready to go")

    def speak(data):
        print("printed", end="")
        print(" in pieces")
        print("to stderr", file=sys.stderr)
        log.info("logged")
        log.debug("not shown")
        return data

    def fail_inside(data):
        try:
            return 1 / 0
        except ZeroDivisionError:
            log.exception("It went wrong.")
        return data

    def print_in_pieces(data):
        for number in range(20):
            for piece in ("<", data.decode().strip(), ":", str(number), ">"):
                print(piece, end="", flush=True)
            print()
        return data

    def set_up(data):
        before = logging.root.handlers[:]
        logging.basicConfig(force=True, level="INFO", format="own %(message)s")
        log.info("logged")
        print("printed")
        logging.root.handlers[:] = before
        log.info("%d", "no number")
        return data

    ACTIONS = {"speak": speak, "fail": fail_inside, "set up": set_up}

    def act(data):
        return ACTIONS.get(data.decode(), print_in_pieces)(data)

    def define(flow, context):
        dag = flow.dag()
        dag.node("first").modify(act)
        dag.node("the second").modify(act)
        dag.edge("first", "the second")
"""


@pytest.fixture(scope="module")
def stack(make_stack: Callable[[], Stack]) -> Stack:
    stack = make_stack()
    stack.function("readable", TWO_NODES)
    stack.function("lines", TWO_NODES, log_format="json")
    stack.start()
    for name in ("readable", "lines"):
        stack.run(name, "nothing", id="first of all")
    return stack


def of_request(stack: Stack, id: str) -> list[Any]:
    """What the process with JSON wrote for a request."""
    return [record for record in stack.records("lines") if record.get("request") == id]


def test_every_line_of_a_request_carries_what_it_belongs_to(stack: Stack) -> None:
    stack.run("readable", "speak", id="marked")
    wait_until(lambda: "The request ended" in stack.lines("readable")[-1], "the last line")
    ours = [line for line in stack.lines("readable") if "request=marked" in line]

    assert all(line.startswith("INFO flow=readable request=marked ") for line in ours)
    for node in ("first", "the%20second"):
        said = [line.partition(f" node={node} attempt=1 ")[2] for line in ours]
        assert {"stdout: printed in pieces", "stderr: to stderr", "mine: logged"} <= {*said}
        assert any(re.search(r": \S+ started\.$", line) for line in said)
        assert any(re.search(r": \S+ ended: FINISHED in \d+\.\d+ s\.$", line) for line in said)
    assert not any("not shown" in line for line in stack.lines("readable"))


def test_what_is_written_outside_of_requests_is_not_marked(stack: Stack) -> None:
    assert stack.lines("readable")[:2] == ["imported", "INFO mine: ready to go"]
    assert [record["message"] for record in stack.records("lines")[:2]] == ["imported", "ready to go"]


def test_every_line_is_json_with_the_same_fields(stack: Stack) -> None:
    stack.run("lines", "speak", id="parsed")
    wait_until(lambda: of_request(stack, "parsed")[-1]["message"].startswith("The request ended"), "the last line")
    nodes = [record for record in of_request(stack, "parsed") if "node" in record]
    said = Counter((record["node"], record["logger"], record["message"]) for record in nodes)

    assert all(record["flow"] == "lines" and record["attempt"] == 1 for record in nodes)
    for node in ("first", "the%20second"):
        assert said[node, "stdout", "printed in pieces"] == said[node, "mine", "logged"] == 1
        assert said[node, "stderr", "to stderr"] == 1


def test_a_logged_traceback_is_one_line(stack: Stack) -> None:
    stack.run("lines", "fail", id="traced")
    wait_until(lambda: of_request(stack, "traced")[-1]["message"].startswith("The request ended"), "the last line")
    told = [record for record in of_request(stack, "traced") if "traceback" in record]

    assert [record["node"] for record in told] == ["first", "the%20second"]
    assert told[0]["traceback"].count("\n") > 2
    assert told[0]["traceback"].endswith("ZeroDivisionError: division by zero")


def test_the_traceback_is_marked_line_by_line_for_people(stack: Stack) -> None:
    stack.run("readable", "fail", id="traced")
    start = "ERROR flow=readable request=traced node=first attempt=1 mine: "
    last = f"{start}ZeroDivisionError: division by zero"
    wait_until(lambda: last in stack.lines("readable"), "the traceback")
    told = [line for line in stack.lines("readable") if line.startswith(start)]

    assert told[0] == f"{start}It went wrong."
    assert told[1] == f"{start}Traceback (most recent call last):"
    assert told[-1] == last


@pytest.mark.parametrize("function", ["readable", "lines"])
def test_twenty_requests_that_print_in_pieces_at_once_do_not_mix(stack: Stack, function: str) -> None:
    ids = [f"many-{number}" for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda id: stack.run(function, f"{id}\n", id=id), ids))
    if function == "lines":
        said = Counter(
            (record["request"], record["node"], record["message"])
            for record in stack.records("lines")
            if record["logger"] == "stdout" and record.get("request") in ids
        )
    else:
        pattern = re.compile(r"INFO flow=readable request=(many-\d+) node=(\S+) attempt=1 stdout: (.*)")
        said = Counter(found.groups() for line in stack.lines("readable") if (found := pattern.fullmatch(line)))

    assert said == Counter((id, node, f"<{id}:{number}>") for id in ids for node in NODES for number in range(20))


NODES = ("first", "the%20second")


def test_neither_a_request_id_nor_a_print_can_forge_a_line(stack: Stack) -> None:
    forgery = "ERROR flow=readable request=other mine: forged"
    path = quote(f"x\n{forgery}")
    requests.post(f"{stack.gateway.url}/function/readable/flow/{path}/forward", data="no message", timeout=30)
    stack.run("readable", f"a\n{forgery}", id=f"y {forgery}")
    wait_until(lambda: "The request ended" in stack.lines("readable")[-1], "the last line")
    quoting = [line for line in stack.lines("readable") if forgery in line]

    assert any("is refused with 400" in line for line in quoting)
    assert any(f" stdout: {forgery}" in line for line in quoting)
    assert any(f' request="y {forgery}" ' in line for line in quoting)
    assert not any(re.match(r"\w+ flow=readable request=other", line) for line in quoting)


def test_a_handler_that_configures_logging_itself_keeps_its_lines_and_their_marks(stack: Stack) -> None:
    stack.run("lines", "set up", id="own")
    wait_until(lambda: of_request(stack, "own")[-1]["message"].startswith("The request ended"), "the last line")
    said = {(record.get("node"), record["logger"], record["message"]) for record in of_request(stack, "own")}

    for node in NODES:
        assert {(node, "stderr", "own logged"), (node, "stdout", "printed")} <= said
        assert (node, "stderr", "--- Logging error ---") in said


def test_the_gateway_keeps_the_lines_as_they_are(stack: Stack) -> None:
    stack.run("lines", "speak", id="kept")
    kept = requests.get(f"{stack.gateway.url}/system/logs", params={"name": "lines"}, timeout=30).text

    assert '\\"request\\": \\"kept\\"' in kept
