from __future__ import annotations

import pytest

from faasflow.local import Gateway
from tests.support import wait_until

BYTES = bytes(range(256))


@pytest.fixture
def call(project, start_gateway, http):
    """Hosts a handler and calls it."""
    gateways: list[Gateway] = []

    def call(code: str, path: str = "", *, lang: str = "python3-http", method: str = "POST", stack=None, **options):
        if not gateways:
            project.function("fn", code, lang=lang, **stack or {})
            gateways.append(start_gateway(project))
        return http.request(method, f"{gateways[0].url}/function/fn{path}", **options)

    return call


def test_an_http_handler_gets_body_headers_method_query_and_path(call):
    code = """
        def handle(event, context):
            seen = [event.body.decode(), event.headers["X-Mine"], event.method, event.query["q"], event.path]
            return {"body": seen, "statusCode": 201, "headers": {"X-Host": context.hostname}}
    """

    answer = call(code, "/a/b?q=1", method="PUT", data="in", headers={"X-Mine": "yes"})

    assert (answer.status_code, answer.json()) == (201, ["in", "yes", "PUT", "1", "/a/b"])
    assert answer.headers["X-Host"]


def test_what_an_http_handler_returns_is_answered(call):
    code = """
        RETURNED = {
            "/none": lambda body: None,
            "/bytes": lambda body: {"body": body},
            "/text": lambda body: {"body": "text", "statusCode": 404},
            "/number": lambda body: {"body": 5},
            "/empty": lambda body: {"statusCode": 204},
            "/flask": lambda body: ("flask", 418),
            "/plain": lambda body: "plain",
            "/raw": lambda body: body,
        }

        def handle(event, context):
            return RETURNED[event.path](event.body)
    """
    expected = {
        "/none": (200, b""),
        "/bytes": (200, BYTES),
        "/text": (404, b"text"),
        "/number": (200, b"5"),
        "/empty": (204, b""),
        "/flask": (418, b"flask"),
        "/plain": (200, b"plain"),
        "/raw": (200, BYTES),
    }

    answers = {path: call(code, path, data=BYTES) for path in expected}

    assert {path: (answer.status_code, answer.content) for path, answer in answers.items()} == expected


def test_an_http_handler_answers_json_for_a_dict_and_repeats_headers_of_a_list(call):
    code = """
        def handle(event, context):
            return {"body": {"a": 1}, "headers": [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]}
    """

    answer = call(code)

    assert (answer.json(), answer.headers["Content-Type"]) == ({"a": 1}, "application/json")
    assert answer.raw.headers.getlist("Set-Cookie") == ["a=1", "b=2"]


def test_a_flask_handler_gets_text(call):
    assert call("def handle(req): return req.upper(), 202", lang="python3-flask", data="ä").text == "Ä"


def test_a_flask_handler_gets_bytes_when_it_asks_for_the_raw_body(call):
    environment = {"environment": {"RAW_BODY": "true"}}

    assert call("def handle(req): return req", lang="python3-flask", stack=environment, data=BYTES).content == BYTES


@pytest.mark.parametrize("lang", ["python3-http", "python3-flask", "python3"])
@pytest.mark.parametrize("code", ["sys.exit(3)", "sys.exit('no')", "raise KeyboardInterrupt", "os.abort()"])
def test_a_handler_that_wants_to_end_the_process_is_answered_with_an_error_at_once(call, lang, code):
    parameters = "event, context" if lang == "python3-http" else "req"

    answer = call(f"import os, sys\ndef handle({parameters}): {code}", lang=lang, timeout=20)

    assert answer.status_code == (502 if code == "os.abort()" and lang != "python3" else 500)


def test_an_exception_is_answered_500_with_its_text_and_logged_with_its_traceback(call, http):
    answer = call("def handle(event, context): raise ValueError('no such city')")
    gateway = answer.url.partition("/function")[0]

    assert (answer.status_code, answer.text) == (500, "ValueError: no such city")
    wait_until(
        lambda: "Traceback (most recent call last)" in http.get(f"{gateway}/system/logs?name=fn").text,
        "the traceback is logged",
    )


def test_a_handler_reaches_its_helpers_in_every_way_that_works_in_a_container(project, start_gateway, http):
    handler = project.function(
        "fn",
        """
        import helper
        from function import helper as absolute
        from . import helper as relative
        from .parts import part

        def handle(event, context):
            return part.TEXT + helper.__file__.rpartition("/")[2] + absolute.TEXT + relative.TEXT
        """,
    )
    (handler.parent / "helper.py").write_text("TEXT = 'helper'\n")
    (handler.parent / "parts").mkdir()
    (handler.parent / "parts" / "part.py").write_text("TEXT = 'part'\n")
    gateway = start_gateway(project)

    assert http.get(f"{gateway.url}/function/fn").text == "parthelper.pyhelperhelper"


def test_a_handler_sees_the_environment_of_its_stack_file_and_not_that_of_the_shell(call, monkeypatch):
    monkeypatch.setenv("MY_SHELL_TOKEN", "secret")
    code = "import os\ndef handle(event, context): return {'body': dict(os.environ)}"

    seen = call(code, stack={"environment": {"colour": "blue"}}).json()

    assert (seen["colour"], seen["OPENFAAS_NAME"]) == ("blue", "fn")
    assert "MY_SHELL_TOKEN" not in seen


def test_health_and_readiness_are_answered_without_the_handler(call):
    code = "def handle(event, context): raise SystemExit"

    assert call(code, "/_/health", method="GET").status_code == 200
    assert call(code, "/_/ready", method="GET").status_code == 200
