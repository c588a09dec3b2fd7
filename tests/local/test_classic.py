"""Functions of the template python3, as the classic watchdog serves them."""

from __future__ import annotations

import threading

import pytest
import requests

from tests.support import wait_until

BYTES = bytes(range(256))
SHOW = """
import os

def handle(req):
    return "|".join(f"{name}={os.environ[name]}" for name in sorted(os.environ) if name.startswith("Http_"))
"""


@pytest.fixture
def call(project, start_gateway, http):
    """Hosts a classic handler and calls it."""
    urls: list[str] = []

    def call(code: str, path: str = "", *, method: str = "POST", **options) -> requests.Response:
        environment = options.pop("environment", {})
        if not urls:
            project.function("fn", code, lang="python3", environment=environment)
            urls.append(start_gateway(project).url)
        return http.request(method, f"{urls[0]}/function/fn{path}", **options)

    return call


def test_what_is_printed_and_what_is_returned_are_the_answer(call):
    answer = call("def handle(req):\n    print('printed')\n    return req[::-1]", data="abc")

    assert (answer.status_code, answer.text) == (200, "printed\ncba\n")


def test_what_is_printed_alone_is_the_answer(call):
    assert call("import subprocess\ndef handle(req): subprocess.run(['echo', req])", data="abc").text == "abc\n"


def test_the_request_stands_in_http_variables(call):
    seen = dict(
        pair.partition("=")[::2]
        for pair in call(SHOW, "/a/b?q=1&r=%20", method="PUT", data="x", headers={"X-My-Token": "t"})
        .text.strip()
        .split("|")
    )

    assert (seen["Http_Method"], seen["Http_Path"], seen["Http_Query"]) == ("PUT", "/a/b", "q=1&r=%20")
    assert (seen["Http_X_My_Token"], seen["Http_Content_Length"]) == ("t", "1")


def test_calls_at_once_do_not_see_each_others_variables(call):
    code = "import os, time\ndef handle(req):\n    time.sleep(0.3)\n    return os.environ['Http_Query'] + req"
    call(code, "?first", data="first")
    answers: dict[str, str] = {}
    threads = [
        threading.Thread(target=lambda n=n: answers.update({n: call(code, f"?{n}", data=n).text.strip()}))
        for n in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == {n: n + n for n in "abcd"}


def test_a_body_that_is_not_utf_8_passes_unharmed(call):
    assert (
        call("import sys\ndef handle(req): sys.stdout.write(req)", data=b"\xff\x00\x80ok").content == b"\xff\x00\x80ok"
    )


def test_each_call_has_a_process_of_its_own(call):
    code = "import os\nSEEN = []\ndef handle(req):\n    SEEN.append(req)\n    return f'{len(SEEN)} {os.getpid()}'"
    first, second = call(code).text.split(), call(code).text.split()

    assert (first[0], second[0]) == ("1", "1")
    assert first[1] != second[1]


def test_an_exception_is_answered_with_its_text_and_what_was_printed_is_logged(call, http):
    answer = call("def handle(req):\n    print('before')\n    raise ValueError('no such city')")
    gateway = answer.url.partition("/function")[0]

    assert (answer.status_code, answer.text) == (500, "ValueError: no such city")
    for text in ("Traceback (most recent call last)", '"before"'):
        wait_until(lambda text=text: text in http.get(f"{gateway}/system/logs?name=fn").text, f"{text} is logged")


@pytest.mark.parametrize(
    ("code", "status", "text"),
    [
        ("sys.exit()", 200, ""),
        ("sys.exit(4)", 500, "SystemExit: 4"),
        ("os._exit(5)", 500, "The process of the call ended with exit status 5."),
        ("raise SystemExit('gone')", 500, "SystemExit: gone"),
    ],
)
def test_the_exit_status_of_a_call_says_whether_it_succeeded(call, code, status, text):
    answer = call(f"import os, sys\ndef handle(req): {code}", timeout=20)

    assert (answer.status_code, answer.text) == (status, text)


def test_a_call_that_takes_too_long_is_killed(call):
    answer = call("import time\ndef handle(req): time.sleep(60)", environment={"exec_timeout": "300ms"}, timeout=20)

    assert (answer.status_code, answer.text) == (408, "Killed after 0.3 s.")
