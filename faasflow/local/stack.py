"""Reads `stack.yml`, the file that lists an OpenFaaS application's functions, into frozen data.

It follows faas-cli: every value of an environment is text as it was written, a file of `environment_file` beats what is
inline and the last file wins, and `${NAME}` is replaced from the environment in all of faas-cli's forms. Two things
differ: paths are looked up beside the stack file, wherever the command was started, and a misspelled key is an error.

A function that cannot be served here does not stop the others: it says why. `stack.local.yml` beside the stack file
names where functions run instead.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from faasflow.errors import GatewayError
from faasflow.local.stack_yaml import Entry, read_yaml

DEFAULT_NAMESPACE = "openfaas-fn"
DEFAULT_GATEWAY = "http://127.0.0.1:8080"
STACK_NAMES = ("stack.yml", "stack.yaml")
STATE_DIR = ".faasflow"
FROM_GO = "docs/from-go.md"

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_KEYS = ("version", "provider", "functions", "configuration")
_PROVIDER_KEYS = ("name", "gateway", "network")
_CONFIGURATION_KEYS = ("copy", "templates")
_TEMPLATE_KEYS = ("name", "source")
_FUNCTION_KEYS = (
    "name",
    "lang",
    "handler",
    "image",
    "registry_auth",
    "fprocess",
    "environment",
    "environment_file",
    "secrets",
    "skip_build",
    "constraints",
    "labels",
    "annotations",
    "limits",
    "requests",
    "readonly_root_filesystem",
    "build_options",
    "build_args",
    "build_secrets",
    "platforms",
    "namespace",
    "schedule",
    "topic",
)


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
    """One function of a stack: where its handler is and what it is deployed with.

    `unhosted` says why no process here can serve it, whatever is corrected, as with a handler in another language;
    `mistake` what has to be corrected before one can. `url` is where it runs instead, if it is known.
    `packages` is the folder for what its requirements.txt names, which need not exist."""

    name: str
    lang: str
    handler: Path
    image: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    namespace: str = DEFAULT_NAMESPACE
    unhosted: str = ""
    mistake: str = ""
    url: str = field(default="", repr=False)
    packages: Path | None = None

    @property
    def style(self) -> Style:
        """How its handler is called; `KeyError` for a function that is not hosted here."""
        return STYLES[base_lang(self.lang)]

    @property
    def is_hosted(self) -> bool:
        """Whether a process here serves it."""
        return not (self.unhosted or self.mistake or self.url)

    @property
    def is_flow(self) -> bool:
        return not self.unhosted and STYLES.get(base_lang(self.lang)) is Style.FLOW


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack file: its functions by name, the gateway it names, the sources of its templates by language, and where it
    was read from. `notes` say what in it has no effect."""

    functions: Mapping[str, FunctionSpec]
    gateway: str = DEFAULT_GATEWAY
    path: Path | None = None
    templates: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def load_stack(path: Path | str, *, environ: Mapping[str, str] | None = None) -> Stack:
    """The stack in a file, or in the `stack.yml` (or `stack.yaml`) of a folder. `GatewayError` if it is missing or
    wrong, or if a folder has both."""
    file = _find(Path(path))
    environ = os.environ if environ is None else environ
    document = read_yaml(file, environ)
    document.check_keys(_KEYS)
    functions = document.entry("functions")
    if not functions:
        raise GatewayError(f"{file} lists no functions. Add one under 'functions:'.")
    provider = document.entry("provider")
    provider.check_keys(_PROVIDER_KEYS)
    notes: list[str] = []
    specs = {name: _function(name, functions, notes) for name in functions}
    return Stack(
        functions=_overridden(specs, file, environ),
        gateway=provider.text("gateway") or DEFAULT_GATEWAY,
        path=file,
        templates=_templates(document),
        notes=tuple(notes),
    )


def find_stack(folder: Path) -> Path | None:
    """The stack file of a folder, if it has one. `GatewayError` if it has both `stack.yml` and `stack.yaml`."""
    found = [folder / name for name in STACK_NAMES if (folder / name).is_file()]
    if len(found) > 1:
        raise GatewayError(
            f"{str(folder)!r} has both {' and '.join(STACK_NAMES)}. Remove one of them, or name one with -f."
        )
    return next(iter(found), None)


def base_lang(lang: str) -> str:
    """A lang without the version it is pinned to (`NAME@tag`) and without the variant of its image."""
    return lang.partition("@")[0].removesuffix("-debian")


def _find(path: Path) -> Path:
    if path.is_dir():
        path = find_stack(path) or path / STACK_NAMES[0]
    if not path.is_file():
        raise GatewayError(f"There is no stack file {str(path)!r}. Name one, or run this where stack.yml is.")
    return path.absolute()


def _templates(document: Entry) -> dict[str, str]:
    configuration = document.entry("configuration")
    configuration.check_keys(_CONFIGURATION_KEYS)
    configuration.texts("copy")
    found: dict[str, str] = {}
    for template in configuration.get("templates") or []:
        if not isinstance(template, Entry):
            raise configuration.error("'templates' must be a list of maps with 'name' and 'source'.", key="templates")
        template.what = "a template"
        template.check_keys(_TEMPLATE_KEYS)
        found[template.text("name")] = template.text("source")
    return found


def _function(name: str, functions: Entry, notes: list[str]) -> FunctionSpec:
    if not _NAME.fullmatch(name):
        raise functions.error(
            f"{name!r} cannot name a function. Use up to 63 of a-z, 0-9 and '-', not '-' at an end.", key=name
        )
    values = functions.entry(name, f"function {name!r}")
    values.check_keys(_FUNCTION_KEYS)
    _check_unused(values)
    spec = FunctionSpec(
        name=name,
        lang=values.text("lang"),
        handler=values.file.parent / values.text("handler"),
        image=values.text("image"),
        secrets=values.texts("secrets"),
        labels=values.text_map("labels"),
        annotations=values.text_map("annotations"),
        namespace=values.text("namespace") or DEFAULT_NAMESPACE,
        packages=values.file.parent / STATE_DIR / "packages" / name,
    )
    unhosted = _why_unhosted(spec, values)
    mistake = "" if unhosted else _mistake(spec, values)
    environment, missing = _environment(values, notes)
    spec = replace(spec, environment=environment, unhosted=unhosted, mistake=mistake or ("" if unhosted else missing))
    return replace(spec, handler=spec.handler.resolve()) if spec.is_hosted else spec


def _check_unused(values: Entry) -> None:
    """Refuse what faas-cli would refuse, of what only a build or a cluster needs."""
    for key in ("build_args", "build_secrets", "limits", "requests"):
        values.text_map(key)
    for key in ("build_options", "constraints"):
        values.texts(key)


def _why_unhosted(spec: FunctionSpec, values: Entry) -> str:
    if not spec.lang:
        return "it has no lang, so it is an image that was built elsewhere"
    style = STYLES.get(base_lang(spec.lang))
    if style is None:
        return f"its lang is {spec.lang!r}, and only handlers in {', '.join(STYLES)} are served here"
    has = [name for name in ("handler.py", "handler.go") if (spec.handler / name).is_file()]
    if style is Style.FLOW and has == ["handler.go"]:
        return f"it is a flow in Go (handler.go); {FROM_GO} says how it is written in Python"
    return ""


def _mistake(spec: FunctionSpec, values: Entry) -> str:
    given = values.text("handler")
    if not given:
        return "it has no 'handler'. Give the folder of its handler.py."
    folder = spec.handler.resolve()
    if not folder.is_dir():
        return f"its handler is {given!r}, but there is no folder {str(folder)!r}."
    if not (folder / "handler.py").is_file():
        return f"it has no handler.py in {str(folder)!r}. Create it there."
    return ""


def _environment(values: Entry, notes: list[str]) -> tuple[dict[str, str], str]:
    """The environment of a function, and which file of it is missing."""
    merged = values.text_map("environment")
    missing = ""
    for given in values.texts("environment_file"):
        source = values.file.parent / given
        if not source.is_file():
            missing = missing or f"its environment_file {given!r} does not exist."
            continue
        document = read_yaml(source)
        merged |= document.text_map("environment")
        if "environment" not in document:
            note = f"{given} has no 'environment:', so it sets nothing for {values.what}."
            notes.append(note)
    return merged, missing


def _overridden(specs: dict[str, FunctionSpec], file: Path, environ: Mapping[str, str]) -> dict[str, FunctionSpec]:
    """The functions, with the URLs of the overrides file beside the stack file; it may add functions."""
    for suffix in (".yml", ".yaml"):
        overrides = file.with_name(f"{file.stem}.local{suffix}")
        if overrides.is_file():
            document = read_yaml(overrides, environ)
            document.check_keys(("functions",))
            functions = document.entry("functions")
            return specs | {name: _elsewhere(name, functions, specs.get(name)) for name in functions}
    return specs


def _elsewhere(name: str, functions: Entry, spec: FunctionSpec | None) -> FunctionSpec:
    values = functions.entry(name, f"function {name!r}")
    values.check_keys(("url",))
    url = values.text("url")
    if not is_url(url):
        raise functions.error(f"function {name!r} needs a 'url' like http://127.0.0.1:8081.", key=name)
    return replace(spec or FunctionSpec(name=name, lang="", handler=Path()), url=url)


def is_url(text: str) -> bool:
    """Whether a text is an http or https URL."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
