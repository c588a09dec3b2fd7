from __future__ import annotations

from pathlib import Path

import pytest

from faasflow.errors import GatewayError
from faasflow.local import Stack, load_stack
from faasflow.local.stack import Style


@pytest.fixture
def write(tmp_path: Path):
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello" / "handler.py").write_text("def handle(event, context): ...\n")

    def write(text: str, *, name: str = "stack.yml") -> Path:
        file = tmp_path / name
        file.write_text(text)
        return file

    return write


def load(file: Path, **environ: str) -> Stack:
    return load_stack(file, environ=environ)


def refusal(file: Path) -> str:
    with pytest.raises(GatewayError) as caught:
        load_stack(file)
    assert str(file) in str(caught.value)
    return str(caught.value)


def test_a_stack_holds_everything_a_function_is_deployed_with(write):
    stack = load(
        write("""
            provider: {name: openfaas, gateway: http://gateway.example:8080}
            functions:
              hello:
                lang: python3-http
                handler: ./hello
                image: me/hello:1
                environment: {write_debug: true, mode: 0644, rate: 1.0, empty:}
                secrets: [key]
                labels: {tier: "1"}
                annotations: {topic: cron-function}
                namespace: staging
        """)
    )

    hello = stack.functions["hello"]
    assert stack.gateway == "http://gateway.example:8080"
    assert (hello.style, hello.handler.name, hello.image, hello.namespace) == (
        Style.HTTP,
        "hello",
        "me/hello:1",
        "staging",
    )
    assert hello.environment == {"write_debug": "true", "mode": "0644", "rate": "1.0", "empty": ""}
    assert (hello.secrets, hello.labels, hello.annotations) == (("key",), {"tier": "1"}, {"topic": "cron-function"})


def test_the_last_environment_file_beats_the_first_and_both_beat_what_is_inline(write):
    write("environment: {a: first, b: first}", name="one.yml")
    write("environment: {b: second}", name="two.yml")

    stack = load(
        write("""
            functions:
              hello:
                lang: python3
                handler: ./hello
                environment: {a: inline, c: inline}
                environment_file: [one.yml, two.yml]
        """)
    )

    assert stack.functions["hello"].environment == {"a": "first", "b": "second", "c": "inline"}


def test_variables_are_replaced_from_the_environment_or_by_their_default(write):
    text = 'functions: {hello: {lang: python3, handler: ./hello, image: "${REPO:-local}/hello:${TAG:-1}${NONE}"}}'

    assert load(write(text), REPO="me", TAG="").functions["hello"].image == "me/hello:1"
    assert load(write(text)).functions["hello"].image == "local/hello:1"


@pytest.mark.parametrize(
    ("lang", "style"),
    [
        ("faas-flow", Style.FLOW),
        ("python3-http-debian", Style.HTTP),
        ("python3-flask@1.2", Style.FLASK),
        ("python3-debian", Style.CLASSIC),
    ],
)
def test_the_lang_says_how_a_handler_is_called_whatever_its_variant_or_version(write, lang, style):
    stack = load(write(f"functions: {{hello: {{lang: {lang}, handler: ./hello}}}}"))

    assert stack.functions["hello"].style is style


def test_a_folder_stands_for_the_stack_file_in_it(write, tmp_path):
    write("functions: {hello: {lang: python3, handler: ./hello}}", name="stack.yaml")

    assert load_stack(tmp_path).path == tmp_path / "stack.yaml"


def test_paths_are_looked_up_beside_the_stack_file(write, tmp_path, monkeypatch):
    file = write("functions: {hello: {lang: python3, handler: hello}}")
    monkeypatch.chdir("/")

    assert load_stack(file).functions["hello"].handler == tmp_path / "hello"


def test_a_missing_stack_file_is_named(tmp_path):
    assert "no stack file" in refusal(tmp_path / "stack.yml")


def test_a_broken_stack_file_is_named_with_the_line(write):
    assert "not valid YAML" in (text := refusal(write("functions:\n  hello: [\n")))
    assert "line 3" in text


def test_a_function_given_twice_is_refused(write):
    entry = "{lang: python3, handler: ./hello}"

    assert "'hello' is given twice (line 3)" in refusal(write(f"functions:\n  hello: {entry}\n  hello: {entry}\n"))


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (
            "hello: {lang: go, handler: ./hello}",
            "'hello' has lang 'go', which is not hosted here. Use one of faas-flow",
        ),
        ("hello: {lang: python3, handler: ./gone}", "'hello' has handler './gone', but there is no folder"),
        ("hello: {lang: python3, handler: .}", "'hello' has no handler.py in"),
        ("hello: {lang: python3}", "'hello' has no 'handler'"),
        ("Hello: {lang: python3, handler: ./hello}", "'Hello' cannot name a function"),
        ("hello: [python3]", "function 'hello' must be a map"),
        (
            "hello: {lang: python3, handler: ./hello, environment: [a]}",
            "'environment' of function 'hello' must be a map",
        ),
        ("hello: {lang: python3, handler: ./hello, secrets: a}", "'secrets' of function 'hello' must be a list"),
        ("hello: {lang: python3, handler: ./hello, environment_file: [no.yml]}", "'no.yml', which does not exist"),
        ("", "lists no functions"),
    ],
)
def test_a_refusal_names_the_function_and_the_reason(write, entry, says):
    assert says in refusal(write(f"functions:\n  {entry}\n"))
