"""Reads `stack.yml`, the file that lists an OpenFaaS application's functions, into frozen data.

It follows faas-cli: every value of an environment is text as it was written, a file of `environment_file` beats what is
inline and the last file wins, `${NAME}` and `${NAME:-default}` are replaced from the environment. One thing differs:
paths are looked up beside the stack file, wherever the command was started.
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from faasflow.errors import GatewayError

DEFAULT_NAMESPACE = "openfaas-fn"
DEFAULT_GATEWAY = "http://127.0.0.1:8080"

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_KEPT_TAGS = ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:null")


class Style(StrEnum):
    """How a handler is called."""

    FLOW = "flow"
    HTTP = "http"
    FLASK = "flask"
    CLASSIC = "classic"


STYLES: Mapping[str, Style] = {
    "faas-flow": Style.FLOW,
    "python3-http": Style.HTTP,
    "python3-flask": Style.FLASK,
    "python3": Style.CLASSIC,
}


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """One function of a stack: where its handler is and what it is deployed with."""

    name: str
    lang: str
    handler: Path
    image: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    namespace: str = DEFAULT_NAMESPACE

    @property
    def style(self) -> Style:
        return STYLES[_base_lang(self.lang)]

    @property
    def is_flow(self) -> bool:
        # What runs elsewhere, at a URL, has no lang.
        return bool(self.lang) and self.style is Style.FLOW


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack file: its functions by name, the gateway it names, and where it was read from."""

    functions: Mapping[str, FunctionSpec]
    gateway: str = DEFAULT_GATEWAY
    path: Path | None = None


def load_stack(path: Path | str, *, environ: Mapping[str, str] | None = None) -> Stack:
    """The stack in a file, or in the `stack.yml` (or `stack.yaml`) of a folder. `GatewayError` if it is missing or
    wrong."""
    file = _find(Path(path))
    document = _parse(file, _substitute(_read(file), os.environ if environ is None else environ))
    functions = _mapping(document.get("functions"), "'functions'", file=file)
    if not functions:
        raise GatewayError(f"{file} lists no functions. Add one under 'functions:'.")
    provider = _mapping(document.get("provider"), "'provider'", file=file)
    specs = {str(name): _function(str(name), entry, file=file) for name, entry in functions.items()}
    return Stack(functions=specs, gateway=str(provider.get("gateway") or DEFAULT_GATEWAY), path=file)


def _find(path: Path) -> Path:
    if path.is_dir():
        names = [path / "stack.yml", path / "stack.yaml"]
        path = next((name for name in names if name.is_file()), names[0])
    if not path.is_file():
        raise GatewayError(f"There is no stack file {str(path)!r}. Name one, or run this where stack.yml is.")
    return path.absolute()


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise GatewayError(f"{file} cannot be read: {exc}.") from exc


def _substitute(text: str, environ: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: environ.get(found[1]) or found[2] or "", text)


class _Loader(yaml.SafeLoader):
    """A safe loader that leaves every scalar but null the text it was written as, and refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} is given twice", problem_mark=key.start_mark)
            if key.value != "<<":
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _KEPT_TAGS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _parse(file: Path, text: str) -> dict[str, Any]:
    try:
        document = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as exc:
        raise GatewayError(f"{file} is not valid YAML: {_problem(exc)}. Correct it.") from exc
    return _mapping(document, "the document", file=file)


def _problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"{problem} (line {mark.line + 1})" if mark else str(problem)


def _function(name: str, entry: object, *, file: Path) -> FunctionSpec:
    if not _NAME.fullmatch(name):
        raise GatewayError(
            f"{file}: {name!r} cannot name a function. Use up to 63 of a-z, 0-9 and '-', not '-' at an end."
        )
    values = _mapping(entry, f"function {name!r}", file=file)
    lang = str(values.get("lang") or "")
    if _base_lang(lang) not in STYLES:
        raise GatewayError(
            f"{file}: function {name!r} has lang {lang!r}, which is not hosted here. "
            f"Use one of {', '.join(STYLES)} (or its -debian variant)."
        )
    return FunctionSpec(
        name=name,
        lang=lang,
        handler=_handler(name, values, file=file),
        image=str(values.get("image") or ""),
        environment=_environment(name, values, file=file),
        secrets=tuple(_list(values.get("secrets"), f"'secrets' of function {name!r}", file=file)),
        labels=_texts(values.get("labels"), f"'labels' of function {name!r}", file=file),
        annotations=_texts(values.get("annotations"), f"'annotations' of function {name!r}", file=file),
        namespace=str(values.get("namespace") or DEFAULT_NAMESPACE),
    )


def _base_lang(lang: str) -> str:
    """A lang without the version it is pinned to (`NAME@tag`) and without the variant of its image."""
    return lang.partition("@")[0].removesuffix("-debian")


def _handler(name: str, values: Mapping[str, Any], *, file: Path) -> Path:
    given = values.get("handler")
    if not given:
        raise GatewayError(f"{file}: function {name!r} has no 'handler'. Give the folder of its handler.py.")
    folder = (file.parent / str(given)).resolve()
    if not folder.is_dir():
        raise GatewayError(f"{file}: function {name!r} has handler {given!r}, but there is no folder {str(folder)!r}.")
    if not (folder / "handler.py").is_file():
        raise GatewayError(f"{file}: function {name!r} has no handler.py in {str(folder)!r}. Create it there.")
    return folder


def _environment(name: str, values: Mapping[str, Any], *, file: Path) -> dict[str, str]:
    merged = _texts(values.get("environment"), f"'environment' of function {name!r}", file=file)
    for given in _list(values.get("environment_file"), f"'environment_file' of function {name!r}", file=file):
        source = file.parent / given
        if not source.is_file():
            raise GatewayError(f"{file}: function {name!r} has environment_file {given!r}, which does not exist.")
        document = _parse(source, _read(source))
        merged |= _texts(document.get("environment"), "'environment'", file=source)
    return merged


def _mapping(value: object, what: str, *, file: Path) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise GatewayError(f"{file}: {what} must be a map of names to values, not {type(value).__name__}.")
    return value


def _texts(value: object, what: str, *, file: Path) -> dict[str, str]:
    return {str(key): "" if text is None else str(text) for key, text in _mapping(value, what, file=file).items()}


def _list(value: object, what: str, *, file: Path) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise GatewayError(f"{file}: {what} must be a list, not {type(value).__name__}.")
    return [str(item) for item in value]
