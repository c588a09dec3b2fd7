"""Reads single settings from an environment and the secret files, and remembers what it read and what is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from faasflow.config.text import DAY, HIDDEN, masked, parse_age, parse_duration
from faasflow.errors import ConfigError

SECRETS = "/var/openfaas/secrets"

BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_LONGEST_DURATION = 366 * DAY


class Source(StrEnum):
    """Where the value of a setting came from."""

    DEFAULT = "default"
    ENVIRONMENT = "environment"
    SECRET = "secret file"


@dataclass(frozen=True, slots=True)
class Reading:
    """A setting as it was read: its value as it may be shown, and what is to be said of it."""

    name: str
    shown: str
    source: Source
    note: str = ""


class Reader:
    """Reads and checks single settings, and remembers what it read. An empty one counts as not given; one that is not
    understood is a problem, and counts as not given then."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.readings: dict[str, Reading] = {}
        self.problems: list[ConfigError] = []

    def text(self, name: str, default: str = "") -> str:
        text = self._environ.get(name, "").strip()
        source = Source.ENVIRONMENT if text else Source.DEFAULT
        self.readings[name] = Reading(name, masked(text or default), source)
        return text or default

    def boolean(self, name: str, default: bool) -> bool:
        text = self.text(name, str(default).lower()).lower()
        if text in BOOLEANS:
            return BOOLEANS[text]
        self.refuse(name, self.text(name), "'true' or 'false'")
        return default

    def seconds(self, name: str, default: float, *, least: float = 0.0) -> float:
        value = parse_duration(self.text(name, f"{default:g}s"))
        return self._checked(name, value, default, least=least, form="a duration like '90s', '1m30s' or '500ms'")

    def age(self, name: str, default: str, *, least: float) -> float:
        """A duration so long that it may be counted in days."""
        value, otherwise = parse_age(self.text(name, default)), parse_age(default) or 0.0
        return self._checked(name, value, otherwise, least=least, form="a duration like '7d', '168h' or '90m'")

    def _checked(self, name: str, value: float | None, default: float, *, least: float, form: str) -> float:
        if value is not None and least <= value <= _LONGEST_DURATION:
            return value
        at_least = f", {least:g}s at least" if least >= 1 else ""
        self.refuse(name, self.text(name), f"{form}, or a number of seconds{at_least}")
        return default

    def integer(self, name: str, default: int, *, least: int, most: int) -> int:
        text = self.text(name, str(default))
        if re.fullmatch(r"\d{1,9}", text, re.ASCII) and least <= int(text) <= most:
            return int(text)
        self.refuse(name, text, f"a whole number from {least} to {most}")
        return default

    def secret(self, name: str, way_out: str) -> bytes | None:
        """What the file of a secret holds, without the space around it; a problem if there is none."""
        file = self.secret_file(name)
        try:
            key = file.read_bytes().strip()
        except OSError as exc:
            self.problem(f"Secret {name!r} cannot be read at {str(file)!r}: {exc.strerror}. {way_out}")
            return None
        if not key:
            self.problem(f"Secret {name!r} at {str(file)!r} is empty. {way_out}")
            return None
        self.readings[name] = Reading(name, HIDDEN, Source.SECRET)
        return key

    def secret_file(self, name: str) -> Path:
        return Path(self.text("secret_mount_path", SECRETS)) / name

    def derived(self, name: str, value: str, origin: str) -> str:
        """Remember a setting that another one stands for."""
        self.readings[name] = Reading(name, masked(value), Source.ENVIRONMENT, f"from {origin}")
        return value

    def unused(self, name: str, note: str) -> None:
        """Remember a setting that is given, although nothing looks at it."""
        if text := self._environ.get(name, "").strip():
            self.readings[name] = Reading(name, masked(text), Source.ENVIRONMENT, note)

    def refuse(self, name: str, value: str, accepted: str) -> None:
        self.problem(f"Setting {name!r} is {masked(value)!r}, which is not understood. Give {accepted}.")

    def problem(self, text: str) -> None:
        if text not in (str(problem) for problem in self.problems):  # a setting may be read in several places
            self.problems.append(ConfigError(text))
