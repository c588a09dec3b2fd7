from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from faasflow.errors import GatewayError
from faasflow.local.supervisor import restart_pause
from tests.local.support import is_running
from tests.support import wait_until

POISONOUS = """
    import os

    def act(data):
        if data == b"poison":
            os._exit(9)
        return b"did " + data

    def define(flow, context):
        dag = flow.dag()
        dag.node("a").modify(act)
        dag.node("b").modify(lambda data: data)
        dag.edge("a", "b")
"""
PID = "import os\ndef handle(event, context): return {'body': str(os.getpid())}\n"


def pid(http, gateway, name: str = "fn") -> int:
    return int(http.get(f"{gateway.url}/function/{name}").text)


def replicas(http, gateway, name: str = "fn") -> int:
    return http.get(f"{gateway.url}/system/function/{name}").json()["availableReplicas"]


def test_a_function_starts_with_its_first_call_and_stays(project, start_gateway, http):
    project.function("fn", PID)
    gateway = start_gateway(project)

    before = replicas(http, gateway)
    first, second = pid(http, gateway), pid(http, gateway)

    assert (before, first) == (0, second)
    assert replicas(http, gateway) == 1


def test_all_functions_can_be_started_at_once_and_those_that_do_not_start_are_told_with_the_reason(
    project, start_gateway
):
    for number in range(3):
        project.function(f"fn{number}", PID)
    project.function("typo", "def handle(event, context) return 1")
    project.function("empty", "X = 1")

    broken = start_gateway(project).start_functions()

    assert set(broken) == {"typo", "empty"}
    assert "Function 'typo' does not start: Handler" in str(broken["typo"])
    assert "SyntaxError: expected ':' (handler.py, line 1)" in str(broken["typo"])
    assert "has no function 'handle'" in str(broken["empty"])


def test_a_function_that_does_not_start_is_502_with_the_reason_and_is_not_started_over_and_over(
    project, start_gateway, http
):
    project.function("fn", "print('starting')\nraise RuntimeError('no database')\n")
    gateway = start_gateway(project)

    answers = [http.get(f"{gateway.url}/function/fn") for _ in range(3)]

    assert {answer.status_code for answer in answers} == {502}
    assert "RuntimeError: no database" in answers[0].text
    # The process has ended, and with it what it says was read to the end.
    assert http.get(f"{gateway.url}/system/logs?name=fn").text.count('"text": "starting"') == 1


def test_a_function_that_ends_while_it_starts_says_its_last_lines(project, start_gateway):
    project.function("fn", "import os\nprint('bye')\nos._exit(3)\n")

    broken = start_gateway(project).start_functions()

    assert "does not start: bye" in str(broken["fn"])


def test_a_crashed_function_is_started_again_by_the_next_call(project, start_gateway, http):
    project.function("fn", PID)
    said: list[str] = []
    gateway = start_gateway(project, on_line=lambda name, text: said.append(text))
    first = pid(http, gateway)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: replicas(http, gateway) == 0, "the crash is noticed")

    assert pid(http, gateway) != first
    assert "faasflow: the process ended with exit code -9; starting it again" in said


def test_a_queued_call_outlives_the_crash_of_its_function(project, start_gateway, http):
    code = """
        import os, pathlib
        MARK = pathlib.Path(__file__).with_name("mark")

        def handle(event, context):
            if not MARK.exists():
                MARK.touch()
                os._exit(1)
            MARK.write_text(event.body.decode())
    """
    handler = project.function("fn", code)
    gateway = start_gateway(project)
    mark = handler.with_name("mark")

    http.post(f"{gateway.url}/async-function/fn", data="done")

    wait_until(lambda: mark.exists() and mark.read_text() == "done", "the call comes through")


def test_stopping_waits_for_calls_in_flight_and_ends_every_process(project, start_gateway, http):
    code = """
        import os, pathlib, time
        def handle(event, context):
            pathlib.Path(__file__).with_name("pid").write_text(str(os.getpid()))
            time.sleep(0.5)
            return "answered"
    """
    mark = project.function("fn", code).with_name("pid")
    gateway = start_gateway(project)
    answers: list[str] = []
    caller = threading.Thread(target=lambda: answers.append(http.get(f"{gateway.url}/function/fn").text))
    caller.start()
    started = int(wait_until(lambda: mark.exists() and mark.read_text(), "the call is in flight"))

    gateway.stop(grace=10)
    caller.join()

    assert answers == ["answered"]
    assert not is_running(started)


def test_stopping_kills_what_does_not_end_within_the_grace_and_what_it_started(project, start_gateway, http):
    code = """
        import signal, subprocess, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "600"])

        def handle(event, context):
            signal.signal  # the server has set its own handler by now
            return {"body": str(child.pid)}
    """
    project.function("fn", code)
    gateway = start_gateway(project)
    grandchild = pid(http, gateway)

    gateway.stop(grace=1)

    wait_until(lambda: not is_running(grandchild), "what the function started is gone")


def test_a_changed_file_is_served_without_a_call_lost(project, start_gateway, http):
    handler = project.function("fn", "from . import text\ndef handle(event, context): return text.TEXT\n")
    text = handler.with_name("text.py")
    text.write_text("TEXT = 'one'\n")
    gateway = start_gateway(project, reload=True)
    seen: list[tuple[int, str]] = []

    def changed() -> bool:
        answer = http.get(f"{gateway.url}/function/fn")
        seen.append((answer.status_code, answer.text))
        return answer.text == "two"

    assert not changed()
    text.write_text("TEXT = 'two'\n")
    wait_until(changed, "the new text is served")

    assert set(seen) == {(200, "one"), (200, "two")}


def test_a_broken_change_keeps_the_version_before_it_and_says_so_once(project, start_gateway, http):
    handler = project.function("fn", PID)
    said: list[str] = []
    gateway = start_gateway(project, reload=True, on_line=lambda name, text: said.append(text))
    before = pid(http, gateway)

    handler.write_text("def handle(event, context)")
    failed = [*wait_until(lambda: [text for text in said if "reload failed" in text], "the reload fails")]

    assert "the version before it keeps running: Function 'fn' does not start" in failed[0]
    assert pid(http, gateway) == before
    handler.write_text(PID + "# repaired\n")
    wait_until(lambda: pid(http, gateway) != before, "the repaired version is served")
    assert len([text for text in said if "reload failed" in text]) == 1


def test_a_repaired_function_is_served_even_if_it_never_ran(project, start_gateway, http):
    handler = project.function("fn", "raise RuntimeError")
    gateway = start_gateway(project, reload=True)
    assert http.get(f"{gateway.url}/function/fn").status_code == 502

    handler.write_text(PID)

    wait_until(lambda: http.get(f"{gateway.url}/function/fn").status_code == 200, "the function is served")


def test_a_second_gateway_on_the_same_state_folder_is_refused(start_gateway, tmp_path):
    start_gateway()

    with pytest.raises(GatewayError, match=r"Another gateway uses the state folder .*--state-dir"):
        start_gateway()


def test_a_gateway_that_could_not_start_leaves_its_state_folder_free(start_gateway, httpserver):
    with pytest.raises(GatewayError, match=rf"Port {httpserver.port} .*--port"):
        start_gateway(port=httpserver.port)

    start_gateway()


def test_an_exec_timeout_that_is_no_duration_is_refused_at_the_start(project, start_gateway):
    project.function("fn", PID, environment={"exec_timeout": "soon"})

    with pytest.raises(GatewayError, match="Function 'fn' has exec_timeout 'soon'"):
        start_gateway(project)


def test_the_first_replacement_is_immediate_and_later_ones_wait_longer_up_to_a_bound():
    pauses = [restart_pause(deaths) for deaths in range(12)]

    assert pauses[:6] == [0, 0, 0.5, 1, 2, 4]
    assert pauses == sorted(pauses)
    assert max(pauses) == 4


def test_the_process_of_a_flow_is_replaced_without_a_call_since_its_clock_runs_in_it(project, start_gateway, http):
    project.function("flow", POISONOUS, lang="faas-flow")
    gateway = start_gateway(project)
    http.get(f"{gateway.url}/function/flow/_/ready")
    [process] = running(project.folder / "flow")
    os.kill(process, signal.SIGKILL)

    wait_until(lambda: running(project.folder / "flow") not in ([], [process]), "another process runs")


def test_good_requests_of_a_flow_whose_process_is_ended_by_another_request_are_not_refused(
    project, start_gateway, http
):
    project.function("flow", POISONOUS, lang="faas-flow")
    gateway = start_gateway(project)
    url = f"{gateway.url}/function/flow"
    http.post(url, data=b"poison")
    answers = [http.post(f"{url}?wait=30s", data=b"good") for _ in range(8)]

    assert [(answer.status_code, answer.text) for answer in answers] == [(200, "did good")] * 8


def test_a_node_that_ends_its_process_each_time_fails_by_name_and_others_go_on(project, start_gateway, http):
    project.function("flow", POISONOUS, lang="faas-flow", environment={"lease": "5s"})
    url = f"{start_gateway(project).url}/function/flow"
    http.post(url, data=b"poison", headers={"X-Faas-Flow-Reqid": "poison"})
    others: list[str] = []

    def has_failed() -> bool:
        answer = http.post(f"{url}?wait=10s", data=b"good")
        assert answer.status_code in (200, 202)
        others.append(answer.headers["X-Faas-Flow-Reqid"])
        return http.get(f"{url}/flow/poison/state").text == "FAILED"

    wait_until(has_failed, "the request fails", timeout=240)
    failed = http.get(f"{url}/flow/poison").json()
    assert (failed["failure"]["node"], failed["failure"]["error_type"]) == ("a", "LostStartError")
    assert [row["request_id"] for row in http.get(f"{url}/flow/dead-letters").json()["dead_letters"]] == ["poison"]
    for id in others:
        wait_until(lambda id=id: http.get(f"{url}/flow/{id}/result").text == "did good", "the others end", timeout=60)


def test_a_start_that_loses_its_process_is_sent_again_under_the_same_id_and_repaired(project, start_gateway, http):
    code = """
        import os, pathlib
        folder = pathlib.Path(__file__).parent

        def act(data):
            if not (folder / "died").exists():
                (folder / "died").touch()
                os._exit(1)
            return data

        def define(flow, context):
            if context.request_id:
                with (folder / "ids").open("a") as ids:
                    ids.write(context.request_id + " ")
            flow.sync_node().modify(act)
    """
    folder = project.function("flow", code, lang="faas-flow").parent
    url = f"{start_gateway(project).url}/function/flow"
    answer = http.post(url, data=b"order")
    id = answer.headers["X-Faas-Flow-Reqid"]

    assert (answer.status_code, answer.json()["state"]) == (202, "RUNNING")
    wait_until(lambda: http.get(f"{url}/flow/{id}/result").text == "order", "the request ends", timeout=60)
    assert {*(folder / "ids").read_text().split()} == {id}


def test_stopping_does_not_wait_for_a_function_that_is_starting(project, start_gateway, http):
    project.function("fn", "import time, pathlib\npathlib.Path(__file__).with_name('began').touch()\ntime.sleep(600)\n")
    gateway = start_gateway(project)
    caller = threading.Thread(target=lambda: http.get(f"{gateway.url}/function/fn"))
    caller.start()
    wait_until((project.folder / "fn" / "began").exists, "the function starts")
    gateway.kill_functions()
    gateway.stop(grace=1)
    caller.join(timeout=10)

    assert not caller.is_alive()


def running(folder: Path) -> list[int]:
    """The processes that serve the handler of a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if f"--handler\0{folder}\0".encode() in entry.read_bytes() and is_running(int(entry.parent.name)):
                found.append(int(entry.parent.name))
    return found


@pytest.mark.parametrize(("name", "is_there"), [(".faasflow", False), (".faasflow", True), ("own-state", False)])
def test_git_ignores_the_whole_state_folder(start_gateway, tmp_path, name, is_there):
    if is_there:
        (tmp_path / name).mkdir()
    start_gateway(state_dir=tmp_path / name)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)

    staged = subprocess.run(
        ["git", "-C", str(tmp_path), "ls-files", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
        text=True,
    )

    assert (tmp_path / name / "secrets").is_dir()
    assert [line for line in staged.stdout.splitlines() if line.startswith(name)] == []


def test_a_folder_of_the_user_that_is_chosen_for_state_is_not_hidden_from_git(start_gateway, tmp_path):
    (tmp_path / "mine").mkdir()
    start_gateway(state_dir=tmp_path / "mine")

    assert not (tmp_path / "mine" / ".gitignore").exists()
