"""Options that several commands have, and how their values are read."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

import click

from faasflow.cli.console import is_terminal

if TYPE_CHECKING:
    from faasflow.cli.remote import Signer

DEFAULT_GATEWAY = "http://127.0.0.1:8080"

Command = TypeVar("Command", bound=Callable[..., Any])


def pair(text: str) -> tuple[str, str]:
    """`NAME=VALUE` as its two parts."""
    name, found, value = text.partition("=")
    if not found or not name:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE.")
    return name, value


def header(text: str) -> tuple[str, str]:
    """`NAME: VALUE`, or faas-cli's older `NAME=VALUE`, as its two parts."""
    name, found, value = text.partition(":")
    if not found or "=" in name:
        name, found, value = text.partition("=")
    if not found or not name.strip():
        raise click.BadParameter(f"{text!r} is not 'NAME: VALUE'.")
    return name.strip(), value.strip()


def duration(text: str | float) -> float:
    """Seconds, from Go's notation (`90s`, `1m30s`, `500ms`) or bare seconds."""
    from faasflow.config import parse_duration

    found = parse_duration(str(text))
    if not found:
        raise click.BadParameter(f"{text!r} is not a duration. Write it like '30s' or '1m30s'.")
    return found


def moment(text: str | float) -> float:
    """Seconds since the epoch, from how long ago it was (`30m`, `7d`) or from RFC 3339; a date alone is its start
    here."""
    from faasflow.config import parse_age, parse_time

    word = str(text).strip()
    if re.fullmatch(r"\d{4}-\d\d-\d\d", word):
        word = _start_of(word)
    is_epoch = re.fullmatch(r"\d{9,12}(\.\d+)?", word)
    ago = None if is_epoch else parse_age(word)
    found = time.time() - ago if ago else parse_time(word)
    if found is None:
        raise click.BadParameter(
            f"{text!r} is no time. Write how long ago, like '30m' or '7d', or a time like 2026-01-31T12:00:00Z."
        )
    return max(0.0, round(found, 3))


def _start_of(day: str) -> str:
    try:
        return datetime.fromisoformat(day).astimezone().isoformat()
    except (ValueError, OverflowError):
        return day


def stack_option(command: Command) -> Command:
    """`-f`, which file lists the functions."""
    option = click.option(
        "-f",
        "--yaml",
        "stack",
        type=click.Path(path_type=Path),
        help="Stack file, or the folder it is in (default: stack.yml here, or in a folder above).",
    )
    return option(command)


def query_option(command: Command) -> Command:
    """`--query`, as often as needed."""
    option = click.option(
        "--query", multiple=True, type=pair, metavar="NAME=VALUE", help="Query of the request; may be given often."
    )
    return option(command)


def data_option(command: Command) -> Command:
    """`--data`, the body of a request."""
    option = click.option(
        "-d", "--data", metavar="TEXT|@FILE", help="Body of the request (default: stdin where it is no terminal)."
    )
    return option(command)


def gateway_option(command: Command) -> Command:
    """`--gateway`, where functions are called."""
    option = click.option(
        "-g",
        "--gateway",
        metavar="URL",
        envvar="OPENFAAS_URL",
        default=DEFAULT_GATEWAY,
        help=f"The gateway (default: $OPENFAAS_URL, else {DEFAULT_GATEWAY}).",
    )
    return option(command)


def remote_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--gateway`, and `--sign`, `--key` and `--key-file` for flows that only listen to who knows their secret. The
    command is given what they name as `remote`."""

    @wraps(command)
    def with_remote(
        *arguments: Any, gateway: str, sign: str | None, key: str | None, key_file: Path | None, **options: Any
    ) -> Any:
        from faasflow.cli.remote import Remote

        return command(*arguments, remote=Remote(gateway, signer=_signer(sign, key, key_file)), **options)

    for option in (
        click.option(
            "--key-file",
            type=click.Path(path_type=Path, dir_okay=False),
            help="File with the key to sign requests with, the flow's secret faasflow-hmac-secret.",
        ),
        click.option("--key", help="Key to sign with."),
        click.option(
            "--sign",
            metavar="HEADER",
            help="Header in which `invoke` also signs the body alone (default: X-Hub-Signature).",
        ),
        gateway_option,
    ):
        with_remote = option(with_remote)
    return with_remote


def query_text(pairs: Iterable[tuple[str, str]]) -> str:
    """The pairs of `--query` as the query of a URL."""
    return urlencode([*pairs])


def _signer(sign: str | None, key: str | None, key_file: Path | None) -> Signer | None:
    from faasflow.cli.remote import SIGNATURE, Signer

    if key is not None and key_file is not None:
        raise click.UsageError("--key and --key-file exclude each other.")
    if key_file is not None:
        return Signer(sign or SIGNATURE, _read(key_file, "--key-file").strip())
    if (sign is None) != (key is None):
        raise click.UsageError("--sign and --key belong together: a header to sign in, and a key to sign with.")
    return Signer(sign, key.encode()) if sign is not None and key is not None else None


def body_of(data: str | None) -> bytes:
    """The body that `--data` names, or what is piped in; empty on a terminal."""
    if data is None:
        return b"" if is_terminal(sys.stdin) else sys.stdin.buffer.read()
    if not data.startswith("@"):
        return data.encode(errors="surrogateescape")
    if data == "@-":
        return sys.stdin.buffer.read()
    return _read(Path(data[1:]), "--data")


def _read(file: Path, option: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as exc:
        raise click.BadParameter(f"{str(file)!r} cannot be read: {exc.strerror}.", param_hint=f"'{option}'") from exc
