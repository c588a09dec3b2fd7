"""Calls to an OpenFaaS gateway, of any kind: functions, flows and the list of both."""

from __future__ import annotations

import base64
import binascii
import difflib
import hashlib
import hmac
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit, urlunsplit

import requests
import yaml
from requests.structures import CaseInsensitiveDict

from faasflow import signature
from faasflow.config import masked, parse_time
from faasflow.errors import ConfigError, FaasflowError, TransportError
from faasflow.signature import Signature

REQUEST_ID = "X-Faas-Flow-Reqid"
STATE = "X-Faas-Flow-State"
SIGNATURE = "X-Hub-Signature"

_CONNECT_TIMEOUT = 10.0
_LOG_TIMEOUT = 30.0
_LONGEST_EXCERPT = 500
_LOGIN_FILE = "config.yml"
_FLOW_LABEL = "faas-flow"
_SIGN = "Sign it with the flow's secret faasflow-hmac-secret: --key-file FILE."
_PLAIN_ID = re.compile(r"(?!\.+$)[^/\\\0]+")
_BREAKS = {"\r": "CR, a carriage return", "\n": "LF, a line feed", "\t": "a tab"}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class RemoteError(FaasflowError):
    """The gateway, or a function behind it, answered with a status outside 2xx."""

    def __init__(self, message: str, *, code: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs requests with the key of a flow. In `header` goes the HMAC of a body, as `faas-cli invoke --sign HEADER
    --key KEY` sends it."""

    header: str
    key: bytes = field(repr=False)

    def headers(self, function: str, method: str, target: str, body: bytes) -> dict[str, str]:
        """What signs a whole request. `target` is path and query behind the function's name, as they are sent."""
        path, _, query = target.partition("?")
        signed = Signature(self.key, flow=function, method=method, path=path, query=query, time=int(time.time()))
        signed.update(body)
        return {signature.HEADER: str(signed)}

    def body_headers(self, body: bytes) -> dict[str, str]:
        """What signs a body alone."""
        return {self.header: "sha256=" + hmac.new(self.key, body, hashlib.sha256).hexdigest()}


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that a process of function `name` wrote, at `time` (seconds since the epoch). `row` is what the gateway
    tells of it."""

    name: str
    time: float
    text: str
    row: Mapping[str, Any] = field(repr=False)


class Remote:
    """A gateway. Its login is that of the URL, else the one that `faas-cli login` stored for it."""

    def __init__(self, url: str, *, signer: Signer | None = None) -> None:
        self.url, self._login = _without_login(_normal(url))
        self._signer = signer
        self._session = requests.Session()
        # As in Go, whose proxies are never used for this machine.
        self._session.trust_env = urlsplit(self.url).hostname not in _LOOPBACK

    def close(self) -> None:
        self._session.close()

    def at(self, url: str) -> Remote:
        """Another gateway, for the same caller; this one if it is the same."""
        other = Remote(url, signer=self._signer)
        return self if other.url == self.url and not other._login else other

    def call(
        self,
        function: str,
        path: str = "/",
        *,
        method: str = "POST",
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        is_async: bool = False,
        signs_body: bool = False,
        timeout: float | None = None,
    ) -> requests.Response:
        """Call a function and return its answer, of any status. `TransportError` if there is none; `timeout` is in
        seconds. A call that is signed is signed as a whole, and its body once more with `signs_body`."""
        route = "async-function" if is_async else "function"
        base = f"{self.url}/{route}/{quote(function, safe='')}"
        joint = "&" if "?" in path else "?"
        url = f"{base}{path}" + (f"{joint}{query}" if query else "")
        given = dict(headers or {})
        if self._signer is not None:
            target = _sent(url).removeprefix(_sent(base).rstrip("/"))
            given |= self._signer.headers(function, method, target, body)
            given |= self._signer.body_headers(body) if signs_body else {}
        return self._send(method, url, headers=given, body=body, timeout=timeout)

    def read(
        self, function: str, path: str = "/", *, query: str = "", timeout: float | None = None
    ) -> requests.Response:
        """What a flow answers to a GET; `RemoteError` for any other status than 2xx."""
        return checked(self.call(function, path, method="GET", query=query, timeout=timeout))

    def post(
        self, function: str, path: str, *, query: str = "", body: bytes = b"", timeout: float | None = None
    ) -> requests.Response:
        """What a flow answers to a POST; `RemoteError` for any other status than 2xx."""
        return checked(self.call(function, path, query=query, body=body, timeout=timeout))

    def flows(self) -> list[str]:
        """The names of the functions that the gateway knows as flows."""
        return [str(function["name"]) for function in self.functions() if is_flow(function)]

    def functions(self, *, namespace: str = "") -> list[dict[str, Any]]:
        """The functions that the gateway knows, by name; those of its default namespace unless another is given."""
        query = f"?{urlencode({'namespace': namespace})}" if namespace else ""
        answer = self._system(f"/system/functions{query}", "list of functions")
        found = _json(answer)
        if not isinstance(found, list):
            raise RemoteError(f"{self.url} is no OpenFaaS gateway: it lists no functions.", code=answer.status_code)
        return sorted(found, key=lambda function: str(function.get("name")))

    def logs(
        self, name: str, *, since: float | None = None, tail: int | None = None, follow: bool = False
    ) -> Iterator[LogLine]:
        """The lines that a function wrote, oldest first: those not older than `since` (seconds since the epoch), the
        last `tail` of them. With `follow` also those that come, until the gateway ends it."""
        function, _, namespace = name.partition(".")
        query: dict[str, Any] = {"name": function, "follow": str(follow).lower()}
        query |= {"namespace": namespace} if namespace else {}
        query |= {"since": datetime.fromtimestamp(since, UTC).isoformat()} if since is not None else {}
        query |= {"tail": tail} if tail is not None else {}
        with self._log(name, query, timeout=None if follow else _LOG_TIMEOUT) as answer:
            try:
                yield from (line for line in map(_log_line, answer.iter_lines()) if line is not None)
            except requests.RequestException as exc:
                raise TransportError(f"The gateway {self.url} broke off the log of {name!r}.") from exc

    def _log(self, name: str, query: Mapping[str, Any], *, timeout: float | None) -> requests.Response:
        """The log of a function. Gateways answer 404, or 501 without a word, for a function that is not there, and 501
        where they keep no logs at all."""
        try:
            return self._system(f"/system/logs?{urlencode(query)}", "logs", timeout=timeout, is_stream=True)
        except RemoteError as error:
            if error.code not in (404, 501):
                raise
            known = self._names(query.get("namespace", ""))
            if known is not None and query["name"] not in known:
                raise _unknown(name, known, self.url) from error
            raise RemoteError(
                f"The gateway {self.url} gives no logs of function {name!r}.",
                code=error.code,
                hint="Read them where it runs, as with kubectl logs or journalctl.",
            ) from error

    def _names(self, namespace: str) -> list[str] | None:
        """The functions that the gateway knows; `None` where it does not list them."""
        try:
            return [str(function.get("name")) for function in self.functions(namespace=namespace)]
        except RemoteError:
            return None

    def _system(
        self, path: str, what: str, *, timeout: float | None = None, is_stream: bool = False
    ) -> requests.Response:
        """What the gateway itself answers to a GET."""
        url = f"{self.url}{path}"
        answer = self._send(
            "GET", url, headers=self._login or stored_login(self.url), body=b"", timeout=timeout, is_stream=is_stream
        )
        if answer.status_code == 401:
            raise RemoteError(
                f"The gateway {self.url} wants a login for its {what}.",
                code=401,
                hint=f"Log in with: faas-cli login --gateway {self.url}",
            )
        return checked(answer)

    def _send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        timeout: float | None,
        is_stream: bool = False,
    ) -> requests.Response:
        try:
            return self._session.request(
                method,
                url,
                data=body or None,
                # As bytes: ids and values may hold any text, of which requests would only take Latin-1.
                headers={name: value.encode() for name, value in {**self._login, **headers}.items()},
                timeout=(_CONNECT_TIMEOUT, timeout),
                allow_redirects=False,
                stream=is_stream,
            )
        except requests.Timeout as exc:
            raise TransportError(f"{url} did not answer in time.") from exc
        except requests.ConnectionError as exc:
            raise TransportError(
                f"The gateway {self.url} cannot be reached.",
                hint="Start one here with `faasflow up`, or name another with --gateway.",
            ) from exc
        except (requests.RequestException, ValueError) as exc:
            raise TransportError(f"{url} cannot be called: {exc}") from exc


def is_flow(described: Mapping[str, Any]) -> bool:
    """Whether a function, as a gateway describes it, has the label of a flow."""
    return (described.get("labels") or {}).get(_FLOW_LABEL) == "1"


def story_path(request_id: str, part: str = "") -> str:
    """Where a flow tells all that it recorded of a request, or has a `part` of it; with a query for an id that would
    not pass every path unharmed."""
    tail = f"/{part}" if part else ""
    if _PLAIN_ID.fullmatch(request_id):
        return f"/flow/{quote(request_id, safe='')}{tail}"
    return f"/flow/-{tail}?id={quote(request_id, safe='')}"


def result_path(request_id: str) -> str:
    """Where a flow answers with the result of a request."""
    return story_path(request_id, "result")


def data_path(request_id: str) -> str:
    """Where a flow gives the values of a request."""
    return story_path(request_id, "data")


def checked(answer: requests.Response) -> requests.Response:
    """An answer of status 2xx; else `RemoteError` with what it says."""
    if answer.ok:
        return answer
    said = _json(answer)
    if isinstance(said, dict) and "error" in said:
        hint = _SIGN if answer.status_code == 401 else str(said.get("hint") or "")
        raise RemoteError(str(said["error"]), code=answer.status_code, hint=hint)
    text = " ".join(answer.content[:_LONGEST_EXCERPT].decode("utf-8", "replace").split())
    url = urlsplit(answer.url)
    raise RemoteError(f"{url.path} answered {answer.status_code}: {text or 'nothing'}", code=answer.status_code)


def story_of(answer: requests.Response, *, of: str = "state") -> dict[str, Any]:
    """The JSON object of an answer; `RemoteError` if it holds none with `of`, as where the function is no flow."""
    found = _json(answer)
    if not isinstance(found, dict) or of not in found:
        path = urlsplit(answer.url).path
        raise RemoteError(f"{path} did not answer as a flow does.", code=answer.status_code, hint="Is it a flow?")
    return found


def pairs_in_headers(pairs: Iterable[tuple[str, str]]) -> MutableMapping[str, str]:
    """Headers given one by one, to be found in any case; those with the same name are joined, as HTTP has it."""
    headers: MutableMapping[str, str] = CaseInsensitiveDict()
    for name, value in pairs:
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _sent(url: str) -> str:
    """Path and query of a URL as they are sent."""
    try:
        return requests.Request("GET", url).prepare().path_url
    except (requests.RequestException, ValueError) as exc:
        raise TransportError(f"{url} cannot be called: {exc}") from exc


def _unknown(name: str, known: Sequence[str], gateway: str) -> RemoteError:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else "`faas-cli list` shows its functions, `faasflow list` its flows."
    return RemoteError(f"There is no function {name!r} on the gateway {gateway}.", code=404, hint=hint)


def _log_line(raw: bytes) -> LogLine | None:
    """One line of a log as the gateway writes it; `None` for what is none."""
    try:
        row = json.loads(raw)
        time = parse_time(row["timestamp"])
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
    # A line may come with its own end.
    text = str(row.get("text", "")).rstrip("\r\n")
    return LogLine(str(row.get("name", "")), time or 0.0, text, row)


def _json(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def _normal(url: str) -> str:
    for character, name in _BREAKS.items():
        if character in url:
            raise ConfigError(
                f"The URL of the gateway, {masked(url)!r}, contains {name}.",
                hint="Remove it. A file with the line ends of Windows leaves one at the end of a value.",
            )
    full = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(full)
        is_fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_fine = False
    if not is_fine:
        raise ConfigError(f"Gateway {masked(url)!r} is not understood.", hint="Write it like http://127.0.0.1:8080.")
    return full.rstrip("/")


def _without_login(url: str) -> tuple[str, dict[str, str]]:
    """A URL without its login, and the login as a header."""
    parts = urlsplit(url)
    login, found, host = parts.netloc.rpartition("@")
    if not found:
        return url, {}
    user, _, password = login.partition(":")
    token = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), {"Authorization": f"Basic {token}"}


def stored_login(gateway: str) -> dict[str, str]:
    """The login that `faas-cli login` keeps for this gateway, as a header."""
    folder = os.environ.get("OPENFAAS_CONFIG") or "~/.openfaas"
    try:
        config = yaml.safe_load((Path(folder).expanduser() / _LOGIN_FILE).read_bytes()) or {}
        logins = {str(login["gateway"]).rstrip("/"): login for login in config.get("auths") or []}
        login = logins.get(gateway)
        if login is None or login.get("auth") != "basic":
            return {}
        base64.b64decode(login["token"], validate=True)
    except (OSError, yaml.YAMLError, AttributeError, LookupError, TypeError, binascii.Error):
        return {}
    return {"Authorization": f"Basic {login['token']}"}
