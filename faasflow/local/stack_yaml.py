"""Reads a YAML file of a stack: every scalar stays the text it was written as, and errors name the line in the file."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from faasflow.errors import GatewayError
from faasflow.local.substitution import Substituted, SubstitutionError, substitute

_KEPT_TAGS = ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:null")
_NEAR = 0.75
_SYNONYMS = {"language": "lang", "env": "environment", "env_file": "environment_file"}


class Entry(dict[str, Any]):
    """A map of a YAML file. It knows the file, and what to call itself in errors, which it raises as `GatewayError`."""

    def __init__(self, file: Path, what: str) -> None:
        super().__init__()
        self.file = file
        self.what = what
        self._lines: dict[object, int] = {}

    def error(self, problem: str, *, key: str | None = None) -> GatewayError:
        line = self._lines.get(key)
        return GatewayError(f"{self.file}: {problem}" + (f" (line {line + 1})" if line is not None else ""))

    def entry(self, key: str, what: str = "") -> Entry:
        """The map under a key, empty where there is none; in errors it is called `what`."""
        found = self.get(key)
        what = what or self._called(key)
        if found is None:
            return Entry(self.file, what)
        if not isinstance(found, Entry):
            raise self.error(f"{what} must be a map of names to values, not {_kind(found)}.", key=key)
        found.what = what
        return found

    def text(self, key: str) -> str:
        """The text under a key, empty where there is none."""
        found = self.get(key)
        if found is None:
            return ""
        if not isinstance(found, str):
            raise self.error(f"{self._called(key)} must be text, not {_kind(found)}.", key=key)
        return found

    def texts(self, key: str) -> tuple[str, ...]:
        """The texts of the list under a key."""
        found = self.get(key)
        if found is None:
            return ()
        if not isinstance(found, list):
            raise self.error(f"{self._called(key)} must be a list, not {_kind(found)}.", key=key)
        wrong = next((item for item in found if not isinstance(item, str)), None)
        if wrong is not None or None in found:
            raise self.error(f"{self._called(key)} must be a list of texts, and one is {_kind(wrong)}.", key=key)
        return tuple(found)

    def text_map(self, key: str) -> dict[str, str]:
        """The map of texts under a key; a key without a value has the empty text."""
        entry = self.entry(key)
        for name, value in entry.items():
            if not isinstance(value, str | None):
                raise entry.error(f"{name!r} in {entry.what} must be text, not {_kind(value)}.", key=name)
        return {name: value or "" for name, value in entry.items()}

    def check_keys(self, known: Collection[str]) -> None:
        """Refuse a key that is one of `known` with a mistake in it. Others are nobody's, and are left alone."""
        for key in self:
            near = None if key in known else _nearest(key, known)
            if near is not None:
                where = f" of {self.what}" if self.what else ""
                raise self.error(f"{key!r}{where} is no setting. Did you mean {near!r}?", key=key)

    def _called(self, key: str) -> str:
        return f"{key!r} of {self.what}" if self.what else repr(key)

    def _add(self, key: object, value: Any, line: int) -> None:
        self[str(key)] = value
        self._lines[str(key)] = line


def read_yaml(file: Path, environ: Mapping[str, str] | None = None) -> Entry:
    """The map that a file holds, with the variables of `environ` put in, unless that is `None`. `GatewayError` if it
    cannot be read or is no YAML."""
    text = _read(file)
    try:
        replaced = Substituted(text) if environ is None else substitute(text, environ)
    except SubstitutionError as error:
        raise GatewayError(f"{file}: {error} (line {error.line + 1}).") from error
    try:
        document = _loaded(replaced, file)
    except yaml.YAMLError as exc:
        raise GatewayError(f"{file} is not valid YAML: {_problem(exc, replaced)}. Correct it.") from exc
    if document is None:
        return Entry(file, "")
    if not isinstance(document, Entry):
        raise GatewayError(f"{file}: the document must be a map of names to values, not {_kind(document)}.")
    return document


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise GatewayError(f"{file} cannot be read: {exc}.") from exc


def _loaded(replaced: Substituted, file: Path) -> object:
    loader = _Loader(replaced.text, file=file, source_line=replaced.source_line)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """A safe loader that leaves every scalar but null the text it was written as, and refuses a key given twice."""

    def __init__(self, text: str, *, file: Path, source_line: Callable[[int], int]) -> None:
        super().__init__(text)
        self._file = file
        self._source_line = source_line

    def construct_entry(self, node: yaml.MappingNode) -> Iterator[Entry]:
        entry = Entry(self._file, "")
        yield entry
        values = self.construct_mapping(node)  # it also puts in what `<<` names
        lines = {self.construct_object(key): key.start_mark.line for key, _ in node.value}
        for key, value in values.items():
            entry._add(key, value, self._source_line(lines[key]))

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _KEPT_TAGS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_entry)


def _problem(error: yaml.YAMLError, replaced: Substituted) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    if mark is None:
        return str(problem)
    behind = replaced.behind(mark.line)
    line = f" (line {replaced.source_line(mark.line) + 1})"
    if behind is None:
        return f"{problem}{line}"
    of_lines = "a text of several lines" if behind.added > 0 else "its value"
    return f"{problem}{line}, after {of_lines} was put in for ${{{behind.name}}} (line {behind.first + 1})"


def _nearest(key: str, known: Collection[str]) -> str | None:
    if key in _SYNONYMS and _SYNONYMS[key] in known:
        return _SYNONYMS[key]
    if key.lower().startswith("x-"):
        return None
    return next(iter(difflib.get_close_matches(key.lower().replace("-", "_"), known, n=1, cutoff=_NEAR)), None)


def _kind(value: object) -> str:
    names = {dict: "a map", Entry: "a map", list: "a list", str: "a text", type(None): "nothing"}
    return names.get(type(value), type(value).__name__)
