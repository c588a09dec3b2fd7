"""Runs the blocks of a page, each as its language asks for; a language that is not listed here fails the page.

- `python`: executed in one module per page. A `define` must build a flow; a `test_...` without parameters is called.
- `pycon`: a session whose answers must be the shown ones (`...` stands for any text), in the same module.
- `console`: `$ command`, `> ` continues it, and below it exactly what it writes: `...` on a line of its own stands for
  any lines, within a line for any text; a date, a time, a length of time and the space between columns for any of its
  kind. `# exits 1` behind a command names the status to come. `command &` runs until
  the page ends; the next one starts when its shown output has appeared. The port 8080 becomes a free one.
- `yaml`, `json`, `toml`: parsed. `mermaid`: kind and brackets are looked at. `text`: anything but a command.
- `sh`: commands for a cluster or another machine; syntax, programs, make targets and extras are looked at.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from faasflow.testing import FlowTester
from tests.docs.checks import CHECKS, PARSERS, check_excerpt, check_syntax
from tests.docs.console import Step, read_console
from tests.docs.pages import ROOT, Block, Page, PageError, repository_files
from tests.docs.shell import Shell
from tests.support import free_port, wait_until

PORT = "8080"
START = 30.0


class PageRun:
    """One pass over a page in a folder of its own. Close it to end what the page started."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder / "page"
        self.folder.mkdir()
        self.port = str(free_port())
        self.module = types.ModuleType("page")
        self.shell = Shell(self.folder, folder, {"OPENFAAS_URL": f"http://127.0.0.1:{self.port}"})

    def run(self, page: Page) -> None:
        """Run every block in order; `PageError` names the line of the first that does not hold."""
        if page.in_repository:
            _copy_repository(self.folder)
        with _imports_from(self.folder, self.module), contextlib.chdir(self.folder):
            for block in page.blocks:
                self._run_block(block)
            self._validate_handlers(page)

    def close(self) -> None:
        self.shell.close()

    def _run_block(self, block: Block) -> None:
        if block.excerpt:
            check_excerpt(block, block.excerpt)
        elif block.file:
            self._write(block, block.file)
        else:
            self._language(block)(block)

    def _language(self, block: Block) -> Callable[[Block], None]:
        known = {"python": self._python, "pycon": self._pycon, "console": self._console} | CHECKS
        if block.language not in known:
            names = ", ".join(sorted(known))
            raise PageError(block.line, f"No test knows language {block.language!r}. Known are: {names}.")
        return known[block.language]

    def _write(self, block: Block, name: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._own_port(block.text))
        if block.language == "python":
            self._compile(block)
        elif block.language in PARSERS:
            CHECKS[block.language](block)

    def _validate_handlers(self, page: Page) -> None:
        """Every handler that is still there when the page ends must be a flow that can run."""
        for block in page.blocks:
            if block.file and "def define(" in block.text and (self.folder / block.file).exists():
                self._validate(block, block.file)

    def _validate(self, block: Block, name: str) -> None:
        command = [sys.executable, "-m", "faasflow.cli", "validate", name]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise PageError(block.line, f"{name} is no flow that can run: {done.stdout}{done.stderr}")

    def _python(self, block: Block) -> None:
        before = dict(vars(self.module))
        with self._named(block):
            exec(self._compile(block), vars(self.module))
            self._use(before)

    def _compile(self, block: Block) -> types.CodeType:
        padded = "\n" * (block.line - 1) + self._own_port(block.text)
        with self._named(block):
            return compile(padded, self.name, "exec", dont_inherit=True)

    def _use(self, before: dict[str, Any]) -> None:
        """Do with new definitions what faasflow and pytest would."""
        for name, value in list(vars(self.module).items()):
            if before.get(name) is value or not isinstance(value, types.FunctionType):
                continue
            if name == "define":
                FlowTester(value)
            elif name.startswith("test_"):
                value()

    @contextlib.contextmanager
    def _named(self, block: Block) -> Iterator[None]:
        try:
            yield
        except PageError:
            raise
        except Exception as exc:
            line = _line_of(exc, self.name) or block.line
            raise PageError(line, f"{type(exc).__name__}: {exc}") from exc

    def _pycon(self, block: Block) -> None:
        text = self._own_port(block.text)
        test = doctest.DocTestParser().get_doctest(text, {}, self.name, self.name, block.line - 1)
        test.globs = vars(self.module)
        said = io.StringIO()
        runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
        if not test.examples or runner.run(test, out=said.write, clear_globs=False).failed:
            raise PageError(block.line, said.getvalue() or "There is no '>>> ' in this session.")

    def _console(self, block: Block) -> None:
        for step in read_console(self._own_port(block.text), block.line):
            if step.in_background:
                self._start(step)
            else:
                self._command(step)

    def _command(self, step: Step) -> None:
        check_syntax(step.command, step.line)
        status, output = self.shell.run(step.command)
        if status != step.status or not step.fits(output):
            wanted = f"{step.expected}(exits {step.status})"
            raise PageError(step.line, f"$ {step.command}\nshown:\n{wanted}\nreal:\n{output}(exits {status})")

    def _start(self, step: Step) -> None:
        output = self.shell.start(self._served_here(step.command))
        try:
            wait_until(lambda: step.fits(output(), so_far=True), step.command, timeout=START)
        except AssertionError:
            text = f"$ {step.command} &\nshown:\n{step.expected}\nreal, after {START:g} s:\n{output()}"
            raise PageError(step.line, text) from None

    def _served_here(self, command: str) -> str:
        is_plain_up = re.match(r"faasflow up\b", command) and "--port" not in command
        return f"{command} --port {self.port}" if is_plain_up else command

    def _own_port(self, text: str) -> str:
        return text.replace(PORT, self.port)


def _line_of(exc: BaseException, name: str) -> int | None:
    if isinstance(exc, SyntaxError) and exc.filename == name:
        return exc.lineno
    lines, frame = [], exc.__traceback__
    while frame:
        lines += [frame.tb_lineno] if frame.tb_frame.f_code.co_filename == name else []
        frame = frame.tb_next
    return lines[-1] if lines else None


def _copy_repository(folder: Path) -> None:
    for name in repository_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)


@contextlib.contextmanager
def _imports_from(folder: Path, module: types.ModuleType) -> Iterator[None]:
    """Let a page import the files it wrote, and forget them afterwards."""
    before = dict(sys.modules)
    sys.modules[module.__name__] = module
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - set(before):
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]
        del sys.modules[module.__name__]
