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
        ("Hello: {lang: python3, handler: ./hello}", "'Hello' cannot name a function"),
        ("hello: [python3]", "function 'hello' must be a map"),
        (
            "hello: {lang: python3, handler: ./hello, environment: [a]}",
            "'environment' of function 'hello' must be a map",
        ),
        ("hello: {lang: python3, handler: ./hello, secrets: a}", "'secrets' of function 'hello' must be a list"),
        ("hello: {lang: python3, secrets: [{a: b}]}", "'secrets' of function 'hello' must be a list of texts"),
        ("hello: {lang: [a]}", "'lang' of function 'hello' must be text, not a list. (line 2)"),
        ("hello: {lang: a, labels: {b: {c: d}}}", "'b' in 'labels' of function 'hello' must be text, not a map"),
        ("hello: {lang: a, environment: {b: [1]}}", "'b' in 'environment' of function 'hello' must be text"),
        ("hello: {lang: a, enviroment: {}}", "'enviroment' of function 'hello' is no setting. Did you mean 'env"),
        ("hello: {lang: a, secret: [b]}", "Did you mean 'secrets'? (line 2)"),
        ("hello: {language: a}", "Did you mean 'lang'?"),
        ("hello: {Image: a}", "Did you mean 'image'?"),
        ("hello: {lang: a, image: '${A}:${B'}", "cannot be replaced: it is not understood (line 2)"),
        ("", "lists no functions"),
    ],
)
def test_a_refusal_names_the_function_and_the_reason(write, entry, says):
    assert says in refusal(write(f"functions:\n  {entry}\n"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("function: {a: {lang: b}}", "'function' is no setting. Did you mean 'functions'? (line 1)"),
        ("provider: {gatway: a}\nfunctions: {a: {lang: b}}", "'gatway' of 'provider' is no setting. Did you mean 'g"),
        ("configuration: {template: []}\nfunctions: {a: {lang: b}}", "Did you mean 'templates'?"),
        ("configuration: {templates: [{nme: a}]}\nfunctions: {a: {lang: b}}", "Did you mean 'name'?"),
    ],
)
def test_a_misspelled_key_outside_of_functions_is_refused_with_the_right_one(write, text, says):
    assert says in refusal(write(text))


def test_what_is_nobodys_setting_is_left_alone(write):
    file = write("x-common: {a: 1}\nfunctions: {hello: {lang: python3, handler: ./hello, owner: me, x-secret: a}}")

    assert load(file).functions["hello"].is_hosted


def test_everything_that_faas_cli_takes_is_taken(write):
    stack = load(
        write("""
            version: 1.0
            provider: {name: openfaas, gateway: "http://127.0.0.1:8080", network: func_functions}
            configuration:
              copy: [./shared]
              templates: [{name: node20, source: "https://example.com/templates"}]
            functions:
              hello:
                lang: python3-http
                handler: ./hello
                image: me/hello
                fprocess: python index.py
                skip_build: false
                build_options: [dev]
                build_args: {GO111MODULE: on, LEVEL: 3}
                build_secrets: {pip: ${HOME}/pip}
                platforms: linux/amd64
                limits: {memory: 128Mi, cpu: 100m}
                requests: {memory: 64Mi, cpu: 0.1}
                constraints: ["node.platform.os == linux"]
                readonly_root_filesystem: true
                registry_auth: abc
                schedule: "*/5 * * * *"
                annotations: {topic: cron-function, schedule: "*/5 * * * *"}
                environment:
                  query: |
                    select 1
                    from a
                  folded: >
                    one
                    line
        """)
    )

    hello = stack.functions["hello"]
    assert hello.is_hosted
    assert hello.environment == {"query": "select 1\nfrom a\n", "folded": "one line\n"}
    assert hello.annotations["schedule"] == "*/5 * * * *"
    assert stack.templates == {"node20": "https://example.com/templates"}


def test_merge_keys_give_functions_what_they_have_in_common(write):
    stack = load(
        write("""
            x-base: &base {lang: python3-http, handler: ./hello, environment: &env {a: "1", b: "1"}}
            functions:
              hello:
                <<: *base
                environment: {<<: *env, b: "2"}
              other: {<<: *base}
        """)
    )

    assert stack.functions["hello"].environment == {"a": "1", "b": "2"}
    assert stack.functions["other"].environment == {"a": "1", "b": "1"}


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("{lang: node20, handler: ./hello}", "its lang is 'node20'"),
        ("{lang: dockerfile, handler: ./hello}", "its lang is 'dockerfile'"),
        ("{image: ghcr.io/openfaas/figlet, skip_build: true}", "an image that was built elsewhere"),
        ("{lang: faas-flow, handler: ./chain}", "it is a flow in Go (handler.go); docs/from-go.md"),
    ],
)
def test_what_cannot_be_served_here_says_so_and_does_not_stop_the_others(write, tmp_path, entry, reason):
    (tmp_path / "chain").mkdir()
    (tmp_path / "chain" / "handler.go").write_text("package function\n")
    stack = load(write(f"functions:\n  hello: {{lang: python3, handler: ./hello}}\n  other: {entry}\n"))

    assert reason in stack.functions["other"].unhosted
    assert [spec.is_hosted for spec in stack.functions.values()] == [True, False]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("{lang: python3, handler: ./gone}", "its handler is './gone', but there is no folder"),
        ("{lang: faas-flow, handler: .}", "it has no handler.py in"),
        ("{lang: python3}", "it has no 'handler'"),
        ("{lang: python3, handler: ./hello, environment_file: [no.yml]}", "environment_file 'no.yml' does not exist"),
    ],
)
def test_a_mistake_in_one_function_does_not_stop_the_others(write, entry, reason):
    stack = load(write(f"functions:\n  hello: {{lang: python3, handler: ./hello}}\n  other: {entry}\n"))

    assert reason in stack.functions["other"].mistake
    assert [spec.is_hosted for spec in stack.functions.values()] == [True, False]


def test_a_file_without_environment_sets_nothing_and_is_noted(write):
    write("KEY: value\n", name="env.yml")
    stack = load(write("functions: {hello: {lang: python3, handler: ./hello, environment_file: [env.yml]}}"))

    assert stack.functions["hello"].environment == {}
    assert stack.notes == ("env.yml has no 'environment:', so it sets nothing for function 'hello'.",)


def test_a_folder_with_both_names_of_a_stack_file_is_refused(write, tmp_path):
    write("functions: {hello: {lang: python3, handler: ./hello}}")
    write("functions: {hello: {lang: python3, handler: ./hello}}", name="stack.yaml")

    with pytest.raises(GatewayError, match=r"both stack\.yml and stack\.yaml"):
        load_stack(tmp_path)


def test_an_error_names_the_line_of_the_file_and_the_variable_whose_value_broke_it(write):
    text = "functions:\n  hello:\n    lang: python3\n    environment:\n      key: ${KEY}\n    handler: ./hello\n"

    with pytest.raises(GatewayError) as caught:
        load(write(text), KEY="-----BEGIN-----\nabc\n-----END-----")
    with pytest.raises(GatewayError) as unknown:
        load(write(text + "    handlr: ./hello\n"), KEY='"one\n\n        two"')

    assert "put in for ${KEY} (line 5)" in str(caught.value)
    assert "'handlr' of function 'hello' is no setting. Did you mean 'handler'? (line 7)" in str(unknown.value)


def test_the_overrides_file_says_where_functions_run_and_may_add_some(write):
    write(
        "functions: {figlet: {url: 'http://me:secret@127.0.0.1:9000/x'}, extra: {url: '${WHERE:-http://a}'}}",
        name="stack.local.yml",
    )
    stack = load(write("functions: {hello: {lang: python3, handler: ./hello}, figlet: {image: figlet}}"))

    assert {name: spec.url for name, spec in stack.functions.items()} == {
        "hello": "",
        "figlet": "http://me:secret@127.0.0.1:9000/x",
        "extra": "http://a",
    }
    assert "me:secret" not in repr(stack)


def test_an_override_without_a_url_is_refused(write, tmp_path):
    write("functions: {figlet: {url: nowhere}}", name="stack.local.yml")
    file = write("functions: {figlet: {image: figlet}}")

    with pytest.raises(GatewayError, match=r"stack.local.yml: function 'figlet' needs a 'url' like"):
        load(file)
