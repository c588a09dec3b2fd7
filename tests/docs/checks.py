"""Looks at the blocks that cannot or need not run: data, diagrams, excerpts, and commands for a cluster."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator

import yaml

from tests.docs.pages import ROOT, Block, PageError

CLUSTER_COMMANDS = {"curl", "docker", "faas-cli", "helm", "kubectl"}
SET_UP_COMMANDS = {"cd", "export", "git", "make", "pip"}
HELPER_COMMANDS = {"base64", "cat", "echo", "head", "mkdir", "openssl"}
COMMANDS = {*CLUSTER_COMMANDS, *SET_UP_COMMANDS, "faasflow", "pytest", "python", "python3"}
DIAGRAMS = {"erDiagram", "flowchart", "graph", "sequenceDiagram", "stateDiagram-v2"}


def check_syntax(command: str, line: int) -> None:
    checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
    if checked.returncode or checked.stderr:
        raise PageError(line, f"This is no shell command: {checked.stderr.strip()}")


def check_excerpt(block: Block, name: str) -> None:
    """The lines of the block must follow one another in that file of the repository, however deep they stand there."""
    source = ROOT / name
    wanted = "\n".join(row.strip() for row in block.text.strip().splitlines())
    there = "\n".join(row.strip() for row in source.read_text().splitlines())
    if f"\n{wanted}\n" not in f"\n{there}\n":
        raise PageError(block.line, f"{name} does not hold these lines.")


def _check_sh(block: Block) -> None:
    check_syntax(block.text, block.line)
    for words in _simple_commands(block.text):
        if words[0] not in CLUSTER_COMMANDS | SET_UP_COMMANDS | HELPER_COMMANDS:
            raise PageError(block.line, f"Command {words[0]!r} can run in a test. Show it in a console block.")
        if words[0] == "make":
            _check_targets(words[1:], block.line)
        if words[0] == "pip":
            _check_extras(words[1:], block.line)


def _simple_commands(text: str) -> Iterator[list[str]]:
    """The words of each command, without the variables set before it."""
    code = re.sub(r"(?m)(^|(?<=\s))#.*$", "", text).replace("\\\n", " ")
    lexer = shlex.shlex(code, posix=True, punctuation_chars="|&;\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    for is_separator, words in itertools.groupby(lexer, key=lambda word: word[:1] in {"|", "&", ";", "\n"}):
        command = list(itertools.dropwhile(lambda word: re.match(r"\w+=[^$]*$", word), words))
        if command and not is_separator:
            yield [command[0].rpartition("$(")[2], *command[1:]]


def _check_targets(words: list[str], line: int) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    if unknown := {word for word in words if "=" not in word} - targets:
        raise PageError(line, f"The Makefile has no target {sorted(unknown)}.")


def _check_extras(words: list[str], line: int) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extras in re.findall(r"faasflow\[(.+?)\]", " ".join(words)):
        if unknown := {extra.strip() for extra in extras.split(",")} - set(known):
            raise PageError(line, f"pyproject.toml has no extra {sorted(unknown)}.")


def _check_text(block: Block) -> None:
    for number, row in enumerate(block.text.splitlines(), block.line):
        first = row.split()[0] if row.strip() else ""
        if row.startswith("$ ") or first in COMMANDS:
            raise PageError(number, "This is a command. Show it in a console block, or in sh if it is for a cluster.")


def _check_mermaid(block: Block) -> None:
    kind = block.text.split()[0]
    if kind not in DIAGRAMS:
        raise PageError(block.line, f"Diagram {kind!r} is unknown. Known are: {', '.join(sorted(DIAGRAMS))}.")
    for opening, closing in ("()", "[]", "{}"):
        if block.text.count(opening) != block.text.count(closing):
            raise PageError(block.line, f"There are not as many {opening!r} as {closing!r}.")


def _parse(block: Block) -> None:
    """Data must be what its language says."""
    try:
        PARSERS[block.language](block.text)
    except (ValueError, yaml.YAMLError) as exc:
        raise PageError(block.line, f"This is no {block.language}: {exc}") from exc


PARSERS: dict[str, Callable[[str], object]] = {
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": lambda text: list(yaml.safe_load_all(text)),
}


CHECKS: dict[str, Callable[[Block], None]] = {
    **dict.fromkeys(PARSERS, _parse),
    "mermaid": _check_mermaid,
    "sh": _check_sh,
    "text": _check_text,
}
