"""What happens to files that change under a running gateway: they are served anew, or it is said that they are not."""

from __future__ import annotations

import pytest

from faasflow.errors import GatewayError
from faasflow.local import load_stack
from faasflow.local.platform import chosen
from tests.support import wait_until

TEXT = "def handle(event, context):\n    return {'body': __import__('os').environ.get('WHO', 'nobody')}\n"


def test_a_changed_stack_file_is_taken_over(project, start_gateway, http):
    project.function("kept", TEXT)
    project.function("gone", TEXT)
    said: list[tuple[str, str]] = []
    gateway = start_gateway(project, reload=True, on_line=lambda name, text: said.append((name, text)))

    def answer(name: str) -> tuple[int, str]:
        found = http.get(f"{gateway.url}/function/{name}")
        return found.status_code, found.text

    assert (answer("kept"), answer("gone")) == ((200, "nobody"), (200, "nobody"))
    project.forget("gone")
    project.function("fresh", TEXT, environment={"WHO": "fresh"})
    project.function("kept", TEXT, environment={"WHO": "changed"})

    wait_until(lambda: answer("kept") == (200, "changed"), "the changed entry is served")
    wait_until(lambda: answer("fresh") == (200, "fresh"), "the new function is served")
    wait_until(lambda: answer("gone")[0] == 404, "what is not listed is not served")
    assert ("fresh", "faasflow: it is served, too: it is new in the stack file.") in said
    assert ("gone", "faasflow: it is served no more: the stack file does not list it.") in said
    assert {row["name"] for row in http.get(f"{gateway.url}/system/functions").json()} == {"kept", "fresh"}


def test_a_broken_stack_file_leaves_everything_as_it_was(project, start_gateway, http):
    project.function("fn", TEXT)
    said: list[tuple[str, str]] = []
    gateway = start_gateway(project, reload=True, on_line=lambda name, text: said.append((name, text)))

    project.stack_file.write_text("functions: [")
    wait_until(lambda: any("is not taken over" in text for _, text in said), "the mistake is said")

    assert http.get(f"{gateway.url}/function/fn").text == "nobody"
    assert next(name for name, text in said if "is not taken over" in text) == "gateway"


def test_without_reload_it_is_said_once_that_something_older_is_served(project, start_gateway, http):
    handler = project.function("fn", TEXT)
    said: list[str] = []
    gateway = start_gateway(project, watches=True, on_line=lambda name, text: said.append(f"{name}: {text}"))
    assert http.get(f"{gateway.url}/function/fn").text == "nobody"

    handler.write_text(TEXT.replace("nobody", "somebody"))
    wait_until(lambda: any("its files have changed" in text for text in said), "it is said")
    handler.write_text(TEXT.replace("nobody", "somebody else"))
    project.stack_file.write_text(project.stack_file.read_text() + "\n# a comment\n")
    wait_until(lambda: any("stack.yml has changed" in text for text in said), "it is said of the stack file, too")

    assert len([text for text in said if "its files have changed" in text]) == 1
    assert http.get(f"{gateway.url}/function/fn").text == "nobody"


def test_only_named_functions_are_served(project):
    project.function("one", TEXT)
    project.function("two", TEXT)
    stack = load_stack(project.stack_file)

    assert [*chosen(stack, ["two"]).functions] == ["two"]
    assert [*chosen(stack, []).functions] == ["one", "two"]
    with pytest.raises(GatewayError, match="There is no function 'tow' in") as refused:
        chosen(stack, ["tow"])
    assert refused.value.hint == "Did you mean 'two'?"
