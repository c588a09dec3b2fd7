"""Whatever is wrong with what a command is given, it says so in a line or two, and never with a traceback of ours."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from faasflow.cli import main
from tests.cli.support import ECHO, Project

LONG = "x" * 5000
NO_TEXT = "\udcff"  # as a byte comes in that is not UTF-8

STACKS = [
    *("bytes.yml", "nul.yml", "list.yml", "empty.yml", "folder.yml", "scalar.yml", "deep.yml", "loop", "dangling"),
    *("/dev/null", "/proc/self/mem", LONG, "a\0b", NO_TEXT, "../nope/../x", "file/x", "nope.yml"),
]
TARGETS = ["", "..", "/", "a\0b", NO_TEXT, LONG, "file", "loop", "dangling", "/dev/null", "/proc/self/mem", "-", "ü"]
STATE_DIRS = ["file", "file/x", "/proc/x", "/dev/null", LONG, "a\0b", NO_TEXT, "loop"]
GATEWAYS = [
    *("{nonsense}", "{closed}", "http://", "://", "http://[::1", "http://h:99999", "http://h:0", "h h", "http://a\nb"),
    *(NO_TEXT, f"http://{LONG}", "http://İ.x", "ftp://x", "http://x/\0", "http://..", "http://ex ample/", " "),
    *("http://user@", "file:///x", "http://[v1.x]/"),
]
NAMES = ["", "/", "..", LONG, NO_TEXT, "a\0b", "a\nb", "?x#y"]
HEADERS = ["a", "a:b\nc", f"{NO_TEXT}: x", "a b: c", ": x", "a:\0"]
TIMES = ["", "x", "-1", "1e99", "9" * 400, "2026-99-99", "0001-01-01", "nan"]
FILES = ["nope", "folder.yml", "loop", "a\0b", LONG]
AT = ["-g", "{nonsense}"]

TABLE = [
    *(["validate", "-f", stack] for stack in STACKS),
    *(["run", "echo", "-f", stack] for stack in STACKS[:7]),
    *(["graph", target] for target in TARGETS),
    *(["doctor", target] for target in TARGETS[:7]),
    *(["run", "echo", "-d", "", "--state-dir", folder] for folder in STATE_DIRS),
    *(["doctor", "echo", "--state-dir", folder] for folder in STATE_DIRS),
    *(["list", "-g", gateway] for gateway in GATEWAYS),
    *(["invoke", "f", "-d", "", "-g", gateway] for gateway in GATEWAYS[:12]),
    *([command, "f", name, *AT] for name in NAMES for command in ("state", "result", "track", "retry", "stop")),
    *(["invoke", name, "-d", "x", *AT] for name in NAMES),
    *(["logs", "f", "--request", name, *AT] for name in NAMES),
    *(["new", name] for name in NAMES),
    *(["invoke", "f", "-d", "x", "-H", header, *AT] for header in HEADERS),
    *(["invoke", "f", "-d", f"@{file}", *AT] for file in FILES),
    *(["invoke", "f", "-d", "x", "--key-file", file, *AT] for file in FILES),
    *(["run", "echo", "--env-file", file] for file in FILES),
    *(["list", "f", "--since", time, *AT] for time in TIMES),
    *(["invoke", "f", "-d", "", "--wait", time, *AT] for time in TIMES),
    *(["new", "x", "--append", file] for file in ("folder.yml", "file/x.yml", "bytes.yml", "list.yml")),
    *(["run", "echo", "-e", variable] for variable in ("NOT_SET", "=", "A B=1", "A=\0")),
    ["up", "--port", "99999"],
    ["up", "--workers", "0"],
    ["up", "-f", "nope.yml"],
    ["up", "--state-dir", "file"],
    ["completion", "fish-and-chips"],
    ["nonsense", NO_TEXT],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project among files of all kinds that are wrong."""
    folder = tmp_path_factory.mktemp("wrong")
    Project(folder).flow("echo", ECHO)
    (folder / "bytes.yml").write_bytes(b"\xff\xfe\x00")
    (folder / "nul.yml").write_bytes(b"functions:\n  a: \x00\n")
    (folder / "list.yml").write_text("- a\n")
    (folder / "empty.yml").write_text("")
    (folder / "folder.yml").mkdir()
    (folder / "scalar.yml").write_text("functions: 3\n")
    (folder / "deep.yml").write_text("[" * 5000)
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "file").write_text("x")
    return folder


@pytest.fixture(scope="module")
def gateways() -> Iterator[dict[str, str]]:
    """Where somebody answers who speaks no HTTP, and where nobody listens."""
    with socket.socket() as nonsense, socket.socket() as closed:
        nonsense.bind(("127.0.0.1", 0))
        nonsense.listen()
        closed.bind(("127.0.0.1", 0))
        threading.Thread(target=_answer, args=(nonsense,), daemon=True).start()
        yield {
            name: f"http://127.0.0.1:{one.getsockname()[1]}"
            for name, one in (("nonsense", nonsense), ("closed", closed))
        }


def _answer(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(65536)
            connection.sendall(b"good day\r\n")


def test_the_table_has_a_hundred_entries() -> None:
    assert len(TABLE) > 100


@pytest.mark.parametrize(
    "command", TABLE, ids=lambda words: " ".join(word[:20] for word in words).encode("unicode_escape").decode()
)
def test_a_wrong_input_is_told_without_a_traceback(
    folder: Path, gateways: dict[str, str], monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("OPENFAAS_URL", raising=False)
    words = [word.format(**gateways) if word in ("{nonsense}", "{closed}") else word for word in command]

    result = CliRunner().invoke(main, words, input=b"")

    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (1, 2), result.output
    assert "Traceback" not in result.output
    assert result.output.strip()
    assert len(result.stderr.splitlines()) <= 5, result.stderr
    assert len(result.stderr) < 5000


def test_what_the_system_refuses_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for number in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EMFILE):

        def refuse(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number), "some file")

        monkeypatch.setattr("faasflow.cli.target.find_target", refuse)
        result = CliRunner().invoke(main, ["graph", "echo"])

        assert (result.exit_code, result.stderr) == (1, f"faasflow: error: 'some file': {os.strerror(number)}.\n")
