"""Reads a Markdown page into the blocks that a test runs. How a page says what is to be done with a block:

<!-- file: flow/handler.py -->    the block below is written to this file of the page's folder
<!-- excerpt: stack.yml -->       the block below stands, line by line, in this file of the repository
<!-- folder: repository -->       the page's folder starts as a copy of the repository, and not empty
<!-- hidden: python               a block that runs and that the reader does not see; any language will do
dag = Dag()
-->
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
DIRECTIVES = ("excerpt", "file", "folder", "hidden")

_DIRECTIVE = re.compile(r"<!--\s*([a-z]+):(.*?)-->\s*", re.DOTALL)


class PageError(AssertionError):
    """A page says something that does not hold, at a line that the text names."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(f"line {line}: {text}")
        self.line = line


@dataclass(frozen=True, slots=True)
class Block:
    """A code block: `line` is that of its first line of code in the page."""

    language: str
    text: str
    line: int
    file: str | None = None
    excerpt: str | None = None


@dataclass(slots=True)
class Page:
    """The blocks of a page in order, and whether they run in a copy of the repository."""

    blocks: list[Block] = field(default_factory=list)
    in_repository: bool = False


def repository_files(pattern: str = "*") -> list[str]:
    """The names of the files that are committed or about to be."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", pattern]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted(name for name in set(listed.split("\0")) if name and os.path.lexists(ROOT / name))


def read_page(text: str) -> Page:
    return _Reader().read(text)


class _Reader:
    """Walks the tokens of a page; a directive waits for the block that follows it."""

    def __init__(self) -> None:
        self.page = Page()
        self.pending: dict[str, str] = {}
        self.line = 0

    def read(self, text: str) -> Page:
        for token in MarkdownIt("commonmark").parse(text):
            self.line = token.map[0] + 1 if token.map else self.line
            self._take(token)
        self._refuse_pending()
        return self.page

    def _take(self, token: Token) -> None:
        match token.type:
            case "fence":
                self._add(Block(token.info.strip(), token.content, self.line + 1, **self.pending))
                self.pending = {}
            case "html_block":
                self._comment(token.content)
            case "code_block":
                raise PageError(self.line, "This block is only indented. Fence it and name its language.")
            case "paragraph_open" | "heading_open":
                self._refuse_pending()

    def _comment(self, text: str) -> None:
        if found := _DIRECTIVE.fullmatch(text):
            self._direct(found[1], found[2])

    def _direct(self, name: str, value: str) -> None:
        if name not in DIRECTIVES:
            raise PageError(self.line, f"Directive {name!r} is unknown. There are: {', '.join(DIRECTIVES)}.")
        if name == "hidden":
            language, _, text = value.strip().partition("\n")
            self._add(Block(language, text + "\n", self.line + 1))
        elif name == "folder":
            self._set_folder(value.strip())
        else:
            self.pending[name] = value.strip()

    def _set_folder(self, value: str) -> None:
        if value != "repository":
            raise PageError(self.line, f"Folder {value!r} is unknown. There is only: repository.")
        self.page.in_repository = True

    def _add(self, block: Block) -> None:
        if not block.language:
            raise PageError(block.line, "This block names no language, so nobody can say whether it is right.")
        self.page.blocks.append(block)

    def _refuse_pending(self) -> None:
        if self.pending:
            raise PageError(self.line, f"No block follows the directive {next(iter(self.pending))!r}.")
