"""Replaces `${NAME}` in the text of a stack file, in the forms that faas-cli takes (those of drone/envsubst).

The text is replaced before it is read as YAML, comments included, so a value may hold any part of the file. What the
file says is kept apart from what was put in: an error can name the line that was written, and the variable.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

_OPEN = re.compile(r"\$?\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":[-=?+]|[-=?+]|\^\^?|,,?|//|/#|/%|/|##?|%%?|:|\}")
_DEFAULTS = (":-", ":=", "=", "-")
_REFUSED = (":?", ":+", "?", "+")


class SubstitutionError(ValueError):
    """An expression that is not understood; `line` counts from 0."""

    def __init__(self, problem: str, *, line: int) -> None:
        super().__init__(problem)
        self.line = line


@dataclass(frozen=True, slots=True)
class Replacement:
    """The expression of variable `name` at the lines `first` to `last` of the source became the lines `start` to `end`
    of the result, all counted from 0."""

    name: str
    first: int
    last: int
    start: int
    end: int

    @property
    def added(self) -> int:
        return (self.end - self.start) - (self.last - self.first)


@dataclass(frozen=True, slots=True)
class Substituted:
    """A text after replacement."""

    text: str
    replacements: Sequence[Replacement] = ()

    def source_line(self, line: int) -> int:
        """The line of the source, from 0, behind a line of the result."""
        before = [replacement for replacement in self.replacements if replacement.start <= line]
        if not before:
            return line
        last = before[-1]
        return last.first if line <= last.end else last.last + line - last.end

    def behind(self, line: int) -> Replacement | None:
        """The replacement that an error at a line of the result is likely to come from: the last one before it whose
        value has several lines, else the one on that line."""
        before = [replacement for replacement in self.replacements if replacement.start <= line]
        long = [replacement for replacement in before if replacement.added > 0]
        here = [replacement for replacement in before if replacement.end == line]
        return next(iter([*reversed(long), *reversed(here)]), None)


def substitute(text: str, environ: Mapping[str, str]) -> Substituted:
    """`text` with every expression replaced by its value: `${A}`, `${A:-default}` (if A is unset or empty; also `:=`
    and `=`), `${A-default}` (if it is unset), defaults with expressions in them, the cases `^ ^^ , ,,`, `${#A}`,
    `${A:from:length}`, `# ## % %%` and `/ // /# /%`. `$${` is a literal `${`. `SubstitutionError` for anything else."""
    parts: list[str] = []
    replacements: list[Replacement] = []
    at = lines = 0
    while (found := _OPEN.search(text, at)) is not None:
        parts.append(text[at : found.start()])
        lines += parts[-1].count("\n")
        if found[0] == "$${":
            parts.append("${")
            at = found.end()
            continue
        scanner = _Scanner(text, found.end(), environ)
        name, value = scanner.expression()
        first = text.count("\n", 0, found.start())
        last = text.count("\n", 0, scanner.at)
        replacements.append(Replacement(name, first, last, lines, lines + value.count("\n")))
        parts.append(value)
        lines += value.count("\n")
        at = scanner.at
    return Substituted("".join([*parts, text[at:]]), replacements)


class _Scanner:
    """Reads one expression, from behind its `${` to behind its `}`, where `at` is then."""

    def __init__(self, text: str, at: int, environ: Mapping[str, str]) -> None:
        self.at = at
        self._text = text
        self._start = at - 2
        self._environ = environ

    def expression(self) -> tuple[str, str]:
        """The name of the variable, and what stands for the expression."""
        is_length = self._text.startswith("#", self.at)
        self.at += is_length
        name = self._take(_NAME)
        operator = self._take(_OPERATOR)
        if operator in _REFUSED:
            raise self._error(f"'{operator}' does not mean to faas-cli what it means to a shell; ${{A:-default}} works")
        value = self._environ.get(name, "")
        if is_length:
            self._end(operator)
            return name, str(len(value.encode()))
        if operator in _DEFAULTS:
            default = self._argument()
            is_given = name in self._environ if operator == "-" else bool(value)
            return name, value if is_given else default
        return name, self._function(operator, value)

    def _function(self, operator: str, value: str) -> str:
        if operator in _CASES:
            self._end(self._take(_OPERATOR))
            return _CASES[operator](value)
        if operator == "}":
            return value
        if operator == ":":
            return _slice(value, self._argument().split(":"))
        if operator.startswith("/"):
            pattern = self._argument("/")
            return _replaced(operator, value, pattern, self._argument() if self._text[self.at - 1] == "/" else "")
        return _trimmed(operator, value, self._argument())

    def _argument(self, stop: str = "}") -> str:
        """What stands up to `stop` or the end of the expression, with the expressions in it replaced."""
        parts = []
        while self.at < len(self._text):
            character = self._text[self.at]
            if self._text.startswith("${", self.at):
                inner = _Scanner(self._text, self.at + 2, self._environ)
                parts.append(inner.expression()[1])
                self.at = inner.at
                continue
            self.at += 1
            if character in (stop, "}"):
                return "".join(parts)
            if character == "\\" and stop == "/" and self._text.startswith("/", self.at):
                character = "/"
                self.at += 1
            parts.append(character)
        raise self._error("its '}' is missing")

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self.at)
        if found is None:
            raise self._error("it is not understood")
        self.at = found.end()
        return found[0]

    def _end(self, operator: str) -> None:
        if operator != "}":
            raise self._error("its '}' is missing")

    def _error(self, problem: str) -> SubstitutionError:
        rest = self._text[self._start :].split("\n", 1)[0]
        shown = rest[: rest.find("}") + 1] or rest[:40]
        line = self._text.count("\n", 0, self._start)
        return SubstitutionError(f"'{shown}' cannot be replaced: {problem}", line=line)


_CASES: Mapping[str, Callable[[str], str]] = {
    "^": lambda value: value[:1].upper() + value[1:],
    "^^": str.upper,
    ",": lambda value: value[:1].lower() + value[1:],
    ",,": str.lower,
}


def _slice(value: str, bounds: Sequence[str]) -> str:
    try:
        first, *length = map(int, bounds)
    except ValueError:
        return value
    first = max(0, first + len(value)) if first < 0 else first
    return value[first : first + length[0]] if length else value[first:]


def _replaced(operator: str, value: str, pattern: str, by: str) -> str:
    if operator == "/#":
        return by + value[len(pattern) :] if value.startswith(pattern) else value
    if operator == "/%":
        return value[: len(value) - len(pattern)] + by if value.endswith(pattern) else value
    return value.replace(pattern, by, -1 if operator == "//" else 1)


def _trimmed(operator: str, value: str, pattern: str) -> str:
    """Without the shortest (longest, where the operator is doubled) beginning or end that matches a pattern."""
    sizes = range(1, len(value) + 1) if len(operator) == 1 else range(len(value), 0, -1)
    for size in sizes:
        if operator.startswith("#") and fnmatch.fnmatchcase(value[:size], pattern):
            return value[size:]
        if operator.startswith("%") and fnmatch.fnmatchcase(value[-size:], pattern):
            return value[:-size]
    return value
