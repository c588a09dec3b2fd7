"""`faasflow track` against a gateway: requests that failed, wait, run, were paused, stopped, or never were."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import requests
import yaml
from click.testing import CliRunner, Result
from pytest_httpserver import HTTPServer

from faasflow.cli import main
from faasflow.local import Gateway, load_stack
from faasflow.testing import FlowTester
from tests.cli.support import ROOT, Project, Terminal, screen
from tests.support import free_port, wait_until

Run = Callable[..., Result]
On = Callable[..., Terminal]

CHECKOUT = """
    import time
    from pathlib import Path

    from faasflow import Retry

    OPEN = Path(__file__).with_name("open")

    def define(flow, context):
        dag = flow.dag()
        dag.node("check").modify(check)
        dag.node("charge", retry=Retry(attempts=3, delay=300.0, jitter=0.0)).apply("charge")
        dag.node("pack").modify(pack)
        dag.node("ship", aggregator=lambda parts: "shipped")
        for name in ("charge", "pack"):
            dag.edge("check", name)
            dag.edge(name, "ship")

    def check(order: str) -> str:
        if order == "nothing":
            raise ValueError("there is nothing to order")
        return order

    def pack(order: bytes) -> bytes:
        while order == b"wait" and not OPEN.exists():
            time.sleep(0.05)
        return order
"""
CHARGE = """
    def handle(event, context):
        print("charging", event.body.decode(), flush=True)
        status = 503 if event.body == b"poor" else 200
        return {"statusCode": status, "body": b"the bank is closed" if status == 503 else event.body}
"""
ALBUM = """
    import time
    from pathlib import Path

    OPEN = Path(__file__).with_name("open")

    def define(flow, context):
        dag = flow.dag()
        each = dag.foreach_branch("photos", photos, aggregator=len, max_parallel=4, on_error="collect")
        each.node("shrink").modify(shrink)
        each.node("store").modify(bytes.upper)
        each.edge("shrink", "store")
        dag.node("index").modify(bytes.upper)
        dag.edge("photos", "index")

    def photos(data):
        return {f"photo{number}": number for number in range(1000)}

    def shrink(number: int) -> bytes:
        while number >= 60 and not OPEN.exists():
            time.sleep(0.05)
        if number % 10 == 3:
            raise ValueError(f"photo {number} is no picture")
        return b"x" * 100
"""


class Site:
    """Flows and functions behind a gateway, and requests to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        project = Project(folder)
        project.flow("checkout", CHECKOUT)
        project.function("charge", CHARGE)
        project.flow("album", ALBUM)
        self.gateway = Gateway(load_stack(project.stack), state_dir=folder / "state", port=free_port())
        self.gateway.start()
        self.url = self.gateway.url

    def start(self, flow: str, id: str, body: str = "tea") -> None:
        headers = {"X-Faas-Flow-Reqid": id, "Connection": "close"}
        started = requests.post(f"{self.url}/function/{flow}", body.encode(), headers=headers)
        assert started.status_code in (200, 202), started.text

    def post(self, flow: str, path: str) -> None:
        answer = requests.post(f"{self.url}/function/{flow}/flow/{path}", headers={"Connection": "close"})
        assert answer.ok, answer.text

    def story(self, flow: str, id: str) -> dict:
        url = f"{self.url}/function/{flow}/flow/{id}?fold=true"
        return requests.get(url, headers={"Connection": "close"}).json()

    def wait_for(self, flow: str, id: str, states: dict[str, str]) -> None:
        """Until nodes, or the request with an empty name, are in these states."""

        def standing() -> dict[str, str]:
            story = self.story(flow, id)
            found = {"": story["state"], **{row["path"]: row["state"] for row in story["graph"]}}
            return {name: found[name] for name in states}

        wait_until(lambda: standing() == states, f"{id} is {states}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"))
    yield site
    site.gateway.stop(grace=1)


@pytest.fixture(autouse=True)
def _at_the_gateway(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENFAAS_URL", site.url)


def words(text: str) -> list[str]:
    """The lines of a text with single spaces."""
    return [" ".join(line.split()) for line in text.splitlines()]


# What failed


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The pipeline of the README with a function that is broken for one year, and a request of it that failed."""
    folder = tmp_path_factory.mktemp("pipeline")
    shutil.copytree(ROOT / "examples", folder / "examples")
    shutil.copy(ROOT / "flow.yml", folder)
    stack = yaml.safe_load((ROOT / "stack.yml").read_text())
    names = ("weather-report", *(f"{part}-statistics" for part in ("temperature", "precipitation", "wind")))
    stack["functions"] = {name: stack["functions"][name] for name in (*names, "render-report")}
    (folder / "stack.yml").write_text(yaml.safe_dump(stack, sort_keys=False))
    handler = folder / "examples" / "functions" / "precipitation-statistics" / "handler.py"
    sound = "csv.DictReader(io.StringIO(event.body.decode()))"
    broken = "looked_at(csv.DictReader(io.StringIO(event.body.decode())))"
    assert handler.read_text().count(sound) == 1
    handler.write_text(
        handler.read_text().replace(sound, broken)
        + '\n\ndef looked_at(rows):\n    for row in rows:\n        if row["date"] == "2013-06-05":\n'
        + '            print("no gauge on 2013-06-05", flush=True)\n            raise LookupError("no gauge")\n'
        + "        yield row\n"
    )
    gateway = Gateway(load_stack(folder / "stack.yml"), state_dir=folder / "state", port=free_port())
    gateway.start()
    headers = {"X-Faas-Flow-Reqid": "w-1", "Connection": "close", "Prefer": "wait=30"}
    answer = requests.post(f"{gateway.url}/function/weather-report", b"", headers=headers)
    assert answer.status_code == 500, answer.text
    yield gateway.url
    gateway.stop(grace=1)


def test_a_failed_request_of_the_pipeline_names_node_error_input_and_what_was_logged(
    faasflow: Run, pipeline: str
) -> None:
    result = faasflow("track", "w-1", "--gateway", pipeline)
    shown = words(result.stdout)

    assert (result.exit_code, result.stderr) == (1, "")
    assert shown[0] == "✗ FAILED weather-report, request w-1"
    assert re.match(
        r"read ✓ → years ✗ \d/4, 1 failed \[ table .* precipitation ✗ \d/4, 1 failed, .*→ publish ·$", shown[3]
    )
    assert "✗ years/precipitation@2013 in 'precipitation-statistics'" in shown
    assert "CallError: Function 'precipitation-statistics' answered 500." in shown
    assert shown[shown.index("date,precipitation,temp_max,temp_min,wind,weather") + 1].startswith("2013-01-01,0.0")
    assert "… all of it: faasflow track w-1 --node years/precipitation@2013 --input" in shown
    log = shown[shown.index("precipitation-statistics wrote:") : shown.index("weather-report wrote:")]
    assert any(line.endswith("no gauge on 2013-06-05") for line in log)
    assert any(line.endswith("LookupError: no gauge") for line in log)
    assert "years/precipitation@2013 ended: FAILED" in shown[shown.index("weather-report wrote:") + 2]


def test_no_line_on_a_terminal_is_longer_than_it(site: Site, pipeline: str, terminal: On) -> None:
    shown = terminal("track", "w-1", "--gateway", pipeline)

    assert shown.end() == 1
    assert max(map(len, shown.screen)) <= 80
    assert b"\x1b[31m" in shown.output
    plain = terminal("track", "w-1", "--gateway", pipeline, NO_COLOR="1")
    assert plain.end() == 1
    assert b"\x1b" not in plain.output


def test_the_input_of_a_failed_node_is_had_as_it_is(faasflow: Run, pipeline: str) -> None:
    at = ("--gateway", pipeline, "--node", "years/precipitation@2013")
    given, answered = faasflow("track", "w-1", *at, "--input"), faasflow("track", "w-1", *at, "--output")
    sound = faasflow("track", "w-1", "--gateway", pipeline, "--node", "years/table@2013", "--output")

    assert given.stdout.splitlines()[0] == "date,precipitation,temp_max,temp_min,wind,weather"
    assert len(given.stdout.splitlines()) == 366
    assert "LookupError: no gauge" in answered.stdout
    assert sound.stdout == given.stdout, "the node before gave what this one worked on"
    assert [result.exit_code for result in (given, answered, sound)] == [0, 0, 0]


def test_machines_are_given_all_that_is_known(faasflow: Run, pipeline: str) -> None:
    result = faasflow("track", "w-1", "--gateway", pipeline, "--json")
    told = json.loads(result.stdout)
    (failing,) = told["failing"]

    assert (result.exit_code, told["state"], told["failure"]["node"]) == (1, "FAILED", "years/precipitation@2013")
    assert failing["input"]["excerpt"].startswith("date,precipitation")
    assert "no gauge on 2013-06-05" in [line["text"] for line in failing["logs"]["precipitation-statistics"]]


def test_a_node_is_seen_from_near(faasflow: Run, pipeline: str) -> None:
    at = ("track", "w-1", "--gateway", pipeline, "--node")
    one, every, wrong = (
        faasflow(*at, "years/table@2013"),
        faasflow(*at, "years/precipitation"),
        faasflow(*at, "years/wnd"),
    )

    assert "✓ years/table@2013" in words(one.stdout)
    assert "date,precipitation,temp_max,temp_min,wind,weather" in words(one.stdout)
    assert words(every.stdout)[-1].startswith("✗ years/precipitation@2013 CallError: Function")
    assert (wrong.exit_code, wrong.stdout) == (1, "")
    assert "has no node 'years/wnd'.\nhint: Did you mean 'years/wind'" in wrong.stderr


def test_code_of_the_handler_that_failed_is_shown_with_its_lines(faasflow: Run, site: Site) -> None:
    site.start("checkout", "c-broken", "nothing")
    site.wait_for("checkout", "c-broken", {"": "FAILED"})
    result = faasflow("track", "c-broken", "--no-logs")
    shown = words(result.stdout)

    assert result.exit_code == 1
    assert shown[3] == "check ✗ → { charge ·, pack · } → ship ·"
    error, place, line, *values = shown[-7:-2]
    assert error == "ValueError: there is nothing to order"
    assert re.fullmatch(rf'File "{site.folder}/checkout/handler.py", line \d+, in check', place)
    assert line == 'raise ValueError("there is nothing to order")'
    assert values == ["input (7 B):", "nothing"]
    assert shown[-2:] == ["", "Go on from there: faasflow retry c-broken --flow checkout"]


# What goes on


def test_a_request_that_waits_says_for_what_and_until_when(faasflow: Run, site: Site) -> None:
    site.start("checkout", "c-poor", "poor")
    site.wait_for("checkout", "c-poor", {"charge": "RETRYING", "pack": "FINISHED"})
    result = faasflow("track", "c-poor")
    shown = words(result.stdout)

    assert (result.exit_code, shown[0]) == (0, "▸ RUNNING checkout, request c-poor")
    assert shown[3] == "check ✓ → { charge ↻, pack ✓ } → ship ·"
    rows = {line.split()[1]: line for line in shown[5 : shown.index("", 5)]}
    assert re.fullmatch(r"↻ charge RETRYING 2 charge next attempt .*, in (4 m \d\d s|5 m 00 s)", rows["charge"])
    assert rows["ship"] == "· ship WAITING waits for charge"
    assert "↻ charge CallError: Function 'charge' answered 503." in shown


def test_paused_stopped_and_finished_are_told_apart(faasflow: Run, site: Site) -> None:
    for id in ("c-paused", "c-stopped", "c-fine"):
        site.start("checkout", id, "poor" if id != "c-fine" else "tea")
    site.wait_for("checkout", "c-paused", {"charge": "RETRYING", "pack": "FINISHED"})
    site.wait_for("checkout", "c-stopped", {"charge": "RETRYING", "pack": "FINISHED"})
    site.wait_for("checkout", "c-fine", {"": "FINISHED"})
    site.post("checkout", "c-paused/pause")
    site.post("checkout", "c-stopped/stop")
    paused, stopped, fine = (faasflow("track", id, "--flow", "checkout") for id in ("c-paused", "c-stopped", "c-fine"))

    assert [result.exit_code for result in (paused, stopped, fine)] == [0, 1, 0]
    assert [result.stdout.splitlines()[0].split("  ")[0] for result in (paused, stopped, fine)] == [
        "‖ PAUSED",
        "✗ STOPPED",
        "✓ FINISHED",
    ]
    assert "· charge CANCELLED 2 charge" in words(stopped.stdout)
    assert words(fine.stdout)[3] == "check ✓ → { charge ✓, pack ✓ } → ship ✓"


def test_a_request_that_never_was_is_no_request_that_ended(faasflow: Run, site: Site) -> None:
    somewhere, here = faasflow("track", "c-none"), faasflow("track", "c-none", "--flow", "checkout")

    assert (somewhere.exit_code, somewhere.stdout, here.exit_code, here.stdout) == (1, "", 1, "")
    assert f"No flow of {site.url} knows request 'c-none'." in somewhere.stderr
    assert "Request 'c-none' is not known." in here.stderr


def test_a_foreach_of_a_thousand_is_readable_while_it_runs_and_little_is_sent(
    faasflow: Run, site: Site, terminal: On
) -> None:
    site.start("album", "a-1")
    wait_until(lambda: _done(site, "a-1") >= 60, "the first photos are done")
    shown = terminal("track", "a-1", "--flow", "album", "--gateway", site.url)
    code, sent, plain = shown.end(), _sent(site, "a-1", "true"), _sent(site, "a-1", "false")
    site.post("album", "a-1/stop")
    (site.folder / "album" / "open").touch()

    assert code == 0
    assert len(shown.screen) <= 24
    assert max(map(len, shown.screen)) <= 80
    assert shown.screen[2].startswith("photos ▸ 60/1000, 6 failed [ shrink ▸ 60/1000, 6 failed →")
    assert "✗ photos/shrink@photo3  ValueError: photo 3 is no picture" in shown.screen
    assert "One from near (1 or more like these): faasflow track a-1 --node NODE" in shown.screen
    assert sent < 20_000 < plain, "what is sent does not grow with the branches"


def _done(site: Site, id: str) -> int:
    (photos, *_) = site.story("album", id)["graph"]
    return int((photos.get("branches") or {"done": 0})["done"])


def _sent(site: Site, id: str, fold: str) -> int:
    url = f"{site.url}/function/album/flow/{id}?fold={fold}"
    return len(requests.get(url, headers={"Connection": "close"}).content)


# Live


def test_watching_on_a_terminal_redraws_until_the_request_has_ended(site: Site, terminal: On) -> None:
    site.start("checkout", "c-watched", "wait")
    shown = terminal("track", "c-watched", "--flow", "checkout", "--watch", "--gateway", site.url)
    shown.read_until("waits for pack")
    middle = shown.screen
    (site.folder / "checkout" / "open").touch()

    assert shown.end() == 0
    (site.folder / "checkout" / "open").unlink()
    assert middle[0] == "▸ RUNNING  checkout, request c-watched"
    assert shown.screen[0] == "✓ FINISHED  checkout, request c-watched"
    assert len([line for line in shown.screen if "checkout, request" in line]) == 1, "it is drawn in place"
    assert max(map(len, shown.screen)) <= 80


def test_watching_redraws_in_place_where_a_line_is_longer_than_the_terminal(site: Site, terminal: On) -> None:
    id = "c-" + "long" * 30
    site.start("checkout", id, "wait")
    shown = terminal("track", id, "--flow", "checkout", "--watch", "--gateway", site.url)
    shown.read_until("waits for pack")
    (site.folder / "checkout" / "open").touch()

    assert shown.end() == 0
    (site.folder / "checkout" / "open").unlink()
    seen = screen(shown.output.decode(), columns=80)
    assert len([line for line in seen if "checkout, request" in line]) == 1


def test_watching_is_left_with_ctrl_c_and_what_was_shown_last_stays(site: Site, terminal: On) -> None:
    site.start("checkout", "c-left", "poor")
    shown = terminal("track", "c-left", "--flow", "checkout", "--watch", "--gateway", site.url)
    shown.read_until("waits for charge")
    shown.press_ctrl_c()

    assert shown.end() == 130
    assert shown.screen[0] == "▸ RUNNING  checkout, request c-left"
    assert "Traceback" not in "\n".join(shown.screen)


def test_watching_in_a_pipe_writes_a_line_for_each_change(site: Site) -> None:
    site.start("checkout", "c-piped", "wait")
    site.wait_for("checkout", "c-piped", {"charge": "FINISHED", "pack": "RUNNING"})
    project = Project(site.folder)
    watching = project.start("track", "c-piped", "--flow", "checkout", "--watch", OPENFAAS_URL=site.url)
    assert watching.stdout is not None
    first = [watching.stdout.readline().decode() for _ in range(5)]
    (site.folder / "checkout" / "open").touch()
    output, _ = watching.communicate(timeout=30)
    (site.folder / "checkout" / "open").unlink()
    lines = [re.sub(r"\d\d:\d\d:\d\d|\d+(\.\d+)? m?s", "T", line) for line in output.decode().splitlines()]

    assert watching.returncode == 0
    assert "".join(first).count("\n") == 5
    assert lines[-3:] == ["T  ✓ pack FINISHED T", "T  ✓ ship FINISHED T", "T  FINISHED"]
    assert b"\x1b" not in output


def test_watching_for_machines_is_a_line_of_json_for_each_change(faasflow: Run, site: Site) -> None:
    site.start("checkout", "c-json")
    result = faasflow("track", "c-json", "--flow", "checkout", "--watch", "--json")

    assert json.loads(result.stdout.splitlines()[-1])["state"] == "FINISHED"


# What it may not be asked for, and what it can do without


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--output"], "--output belongs to a --node."),
        (["--input", "--watch"], "go with neither --watch nor --json"),
        (["--node", "a", "--watch"], "--watch shows all nodes"),
    ],
)
def test_what_does_not_go_together_is_a_misuse(faasflow: Run, options: list[str], reason: str) -> None:
    result = faasflow("track", "c-1", *options)

    assert result.exit_code == 2
    assert reason in result.stderr


@pytest.mark.parametrize("status", [401, 501])
def test_logs_that_cannot_be_had_are_a_note_and_no_error(
    faasflow: Run, site: Site, httpserver: HTTPServer, status: int
) -> None:
    site.start("checkout", f"c-{status}", "nothing")
    site.wait_for("checkout", f"c-{status}", {"": "FAILED"})
    story = site.story("checkout", f"c-{status}")
    at = f"/function/checkout/flow/c-{status}"
    httpserver.expect_request(at).respond_with_json(story)
    httpserver.expect_request(f"{at}/data").respond_with_data(b"nothing")
    httpserver.expect_request("/system/logs").respond_with_data("no", status=status)
    result = faasflow("track", f"c-{status}", "--flow", "checkout", "--gateway", httpserver.url_for(""))

    assert result.exit_code == 1
    assert "ValueError: there is nothing to order" in result.stdout
    assert result.stderr.startswith("Logs are missing: ")
    assert ("faas-cli login" in result.stderr) is (status == 401)
    assert result.stderr.count("\n") == 1


def test_values_that_cannot_be_had_now_are_a_note_and_the_error_is_told_all_the_same(
    faasflow: Run, site: Site, httpserver: HTTPServer
) -> None:
    site.start("checkout", "c-away", "nothing")
    site.wait_for("checkout", "c-away", {"": "FAILED"})
    at, away = "/function/checkout/flow/c-away", {"error": "The data store cannot be reached.", "request_id": "c-away"}
    httpserver.expect_request(at).respond_with_json(site.story("checkout", "c-away"))
    httpserver.expect_request(f"{at}/data").respond_with_json(away, status=503)
    httpserver.expect_request("/system/logs").respond_with_data("")
    asked = ["track", "c-away", "--flow", "checkout", "--gateway", httpserver.url_for("")]
    people, machines = faasflow(*asked), faasflow(*asked, "--json")

    assert (people.exit_code, machines.exit_code) == (1, 1)
    assert "ValueError: there is nothing to order" in people.stdout
    assert people.stderr == "A value is missing: The data store cannot be reached.\n"
    assert json.loads(machines.stdout)["notes"] == [away["error"]]


def test_a_node_with_the_name_of_a_closing_step_is_found_by_its_own_path(faasflow: Run, httpserver: HTTPServer) -> None:
    def define(flow, context):
        flow.dag().node("finally").modify(bytes.upper)
        flow.finally_(lambda state: None)

    tester = FlowTester(define)
    id = tester.run(b"x").request_id
    httpserver.expect_request(f"/function/f/flow/{id}").respond_with_json(
        json.loads(msgspec.json.encode(tester.engine.story(id)))
    )
    httpserver.expect_request(f"/function/f/flow/{id}/data").respond_with_data(b"X")
    shown = [
        faasflow("track", id, "--flow", "f", "--gateway", httpserver.url_for(""), "--no-logs", "--json", "--node", node)
        for node in ("finally", "$finally")
    ]

    assert [json.loads(one.stdout)["node"] for one in shown] == ["finally", "$finally"]


def test_help_shows_how(faasflow: Run) -> None:
    assert (
        "faasflow track orders order-1 --node ship --input > input.json"
        in CliRunner().invoke(main, ["track", "--help"]).stdout
    )
