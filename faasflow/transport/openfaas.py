"""Functions, URLs and the queue over HTTP, through an OpenFaaS gateway."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import quote, unquote, urlencode, urljoin, urlsplit

import requests
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError

from faasflow.config import masked, redirection
from faasflow.errors import (
    CallTimeoutError,
    FaasflowError,
    ForwardError,
    NoAnswerError,
    TransportError,
    UnreachableError,
)
from faasflow.naming import header_text
from faasflow.ports import Forward, OutgoingCall, Response
from faasflow.transport.connections import Adapter, NothingTakenError

REQUEST_ID_HEADER = "X-Faas-Flow-Reqid"

_LOGIN_HEADER = "Authorization"
_DISTRUST = "CERTIFICATE_VERIFY_FAILED"
_CONNECT_TIMEOUT = 5.0
_FORWARD_TIMEOUT = 30.0
_FORWARDS_AT_ONCE = 16
_HOSTS = 64
_MOST_REDIRECTS = 10
_SAME_AGAIN = (307, 308)
_CHUNK = 64 * 1024
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_TAKEN = (200, 202)
_CHECK = "Check that it runs and that its address is right."
_LOGIN_HINT = "The gateway wants a login: set gateway_auth, and mount the secrets that it names."
_ROUTES = ("/function/", "/async-function/")


class OpenFaasTransport:
    """Reaches functions and the queue through the gateway at a URL, on pooled connections for `threads` threads.

    Proxies and logins of the environment are not used, and cookies are not kept. A redirect is followed only if it
    asks for the same method and body again (307, 308), at the same scheme, host and port. Whatever of a header is not
    printable ASCII is sent percent-encoded. After a fork each process has connections of its own.

    A call is made once: one that may have been received is not repeated here. `UnreachableError` says that nothing of
    it was, any other `TransportError` that nobody knows.

    `login` is sent to the gateway as `Authorization`, with functions and the queue only: never to a URL, be it one of
    the gateway, and never where a function redirects to. `ca_file` is the authority behind the gateway's certificate,
    if it is a private one.
    """

    def __init__(self, gateway: str, *, threads: int = 32, login: str = "", ca_file: str = "") -> None:
        self._gateway = gateway.rstrip("/")
        self._login = login
        self._ca_file = ca_file
        # Beside those that serve, as many threads may wait for results, and a few run the clock.
        self._connections = 2 * threads + 2 * _FORWARDS_AT_ONCE
        self._opened: _Opened | None = None
        self._opening = threading.Lock()

    def function_url(self, name: str) -> str:
        """Where the gateway serves the function `name` (or `name.namespace`), also with a path behind it."""
        return f"{self._gateway}/function/{quote(name)}"

    def call(self, call: OutgoingCall) -> Response:
        """Make the call once and return whatever was answered; see `Transport.call`. The timeout counts anew for the
        body, so that a slow answer may take up to twice as long."""
        if call.function is None:
            return self._send(call, f"URL {_shown(call.url)!r}")
        return self._send(self._logged_in(call), f"Function {call.function!r}")

    def _send(self, call: OutgoingCall, what: str) -> Response:
        with _translated(what, call.timeout):
            answer = self._own.session.request(
                call.method,
                _with_query(call.url, call.query),
                headers={name: header_text(value) for name, value in call.headers.items()},
                data=call.body or None,
                timeout=(min(_CONNECT_TIMEOUT, call.timeout), call.timeout),
                verify=self._ca_file if self._ca_file and call.url.startswith(f"{self._gateway}/") else True,
                stream=True,
            )
            with answer:
                return Response(answer.status_code, dict(answer.headers), _read(answer, what, call.timeout))

    def forward(self, messages: Sequence[Forward]) -> None:
        """Queue messages through `/async-function/`, several at a time; see `Transport.forward`."""
        if len(messages) == 1:
            return self._forward(messages[0])
        under_way = [self._own.forwards.submit(self._forward, message) for message in messages]
        try:
            for one in under_way:
                one.result()
        finally:
            # One that was refused means that all are sent again: the rest need not try.
            for one in under_way:
                one.cancel()
            wait(under_way)

    def close(self) -> None:
        """Close the connections. Calling it again is fine, and so is using the transport afterwards."""
        with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None and opened.pid == os.getpid():
            opened.forwards.shutdown(wait=False)
            opened.session.close()

    def _forward(self, message: Forward) -> None:
        url = f"{self._gateway}/async-function/{quote(message.flow)}/flow/{forward_path(message.request_id)}"
        headers = {"Content-Type": "application/json", REQUEST_ID_HEADER: message.request_id}
        call = self._logged_in(OutgoingCall("POST", url, headers, [], message.body, _FORWARD_TIMEOUT))
        try:
            answer = self._send_again(call, f"URL {_shown(url)!r}")
        except TransportError as error:
            text = f"A message of request {message.request_id!r} was not queued: {error}"
            raise ForwardError(text, hint=error.hint) from error
        if answer.status not in _TAKEN:
            raise ForwardError(
                f"A message of request {message.request_id!r} was not queued: the gateway answered {answer.status}"
                f"{redirection(url, answer.header('Location'))}.",
                hint=_LOGIN_HINT
                if answer.status == 401
                else f"Check that the gateway at {_shown(self._gateway)} has a queue and knows {message.flow!r}.",
            )

    def _send_again(self, call: OutgoingCall, what: str) -> Response:
        """Send, and once more if nothing was received: a connection that was kept may have lost its peer."""
        try:
            return self._send(call, what)
        except UnreachableError:
            return self._send(call, what)

    def _logged_in(self, call: OutgoingCall) -> OutgoingCall:
        """`call` with the gateway's login, unless it has one of its own or its URL was changed to leave the routes of
        functions: then a function or a caller could make the flow speak to the gateway in its name."""
        if not self._login or not self._is_routed(call.url) or any(_is_login(name) for name in call.headers):
            return call
        return replace(call, headers={**call.headers, _LOGIN_HEADER: self._login})

    def _is_routed(self, url: str) -> bool:
        rest = url.removeprefix(self._gateway)
        path = unquote(rest.partition("?")[0]).replace("\\", "/").split("/")
        return rest != url and rest.startswith(_ROUTES) and not {".", ".."} & {*path}

    @property
    def _own(self) -> _Opened:
        """What belongs to this process."""
        opened = self._opened
        if opened is None or opened.pid != os.getpid():
            with self._opening:
                opened = self._opened
                if opened is None or opened.pid != os.getpid():
                    self._opened = opened = _Opened(_new_session(self._connections, self._login))
        return opened


class _Opened:
    """The connections of one process, and the threads that forward for all of its own."""

    def __init__(self, session: requests.Session) -> None:
        self.pid = os.getpid()
        self.session = session
        self.forwards = ThreadPoolExecutor(_FORWARDS_AT_ONCE, thread_name_prefix="forward")


class _Session(requests.Session):
    gateway_login = ""

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        super().rebuild_auth(prepared_request, response)  # type: ignore[no-untyped-call]
        if self.gateway_login and prepared_request.headers.get(_LOGIN_HEADER) == self.gateway_login:
            del prepared_request.headers[_LOGIN_HEADER]

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        # After the others the library would make of a call one without a body.
        target = super().get_redirect_target(resp) if resp.status_code in _SAME_AGAIN else None
        if target is None or _origin(urljoin(resp.url, target)) != _origin(resp.url):
            return None
        return target


def _new_session(connections: int, login: str) -> requests.Session:
    session = _Session()
    session.gateway_login = login
    session.trust_env = False  # reading the environment costs more than the call, and Kubernetes fills it
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers["User-Agent"] = "faasflow"
    session.max_redirects = _MOST_REDIRECTS
    adapter = Adapter(pool_connections=_HOSTS, pool_maxsize=connections)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def _is_login(name: str) -> bool:
    return name.lower() == _LOGIN_HEADER.lower()


def forward_path(request_id: str) -> str:
    """What follows `/flow/` where a flow takes its forwards. The id is in the path, unless a gateway on the way might
    decode and clean the path: then in the query."""
    if _PLAIN_ID.fullmatch(request_id):
        return f"{request_id}/forward"
    return f"-/forward?id={quote(request_id, safe='', errors='surrogatepass')}"


def _with_query(url: str, query: Sequence[tuple[str, str]]) -> str:
    if not query:
        return url
    parts = urlsplit(url)
    text = "&".join(filter(None, [parts.query, urlencode(query)]))
    return parts._replace(query=text, fragment="").geturl()


def _read(answer: requests.Response, what: str, timeout: float) -> bytes:
    deadline = time.monotonic() + timeout
    body = bytearray()
    while chunk := answer.raw.read1(_CHUNK, decode_content=True):
        body += chunk
        if time.monotonic() > deadline:
            raise _too_slow(what, timeout)
    return bytes(body)


@contextmanager
def _translated(what: str, timeout: float) -> Iterator[None]:
    """The one place where the library's errors become ours. They are left out, also as the cause that a traceback would
    show: their texts quote whole URLs."""
    try:
        yield
    except FaasflowError:
        raise
    except (requests.ReadTimeout, ReadTimeoutError):
        raise _too_slow(what, timeout) from None
    except requests.TooManyRedirects:
        raise TransportError(
            f"{what} redirects in a circle, or more than {_MOST_REDIRECTS} times.", hint="Call what it leads to."
        ) from None
    except ValueError as exc:  # a URL, method or header that is none
        raise TransportError(
            f"{what} cannot be called: {type(exc).__name__}.",
            hint="Give a whole http or https URL, and headers with plain names.",
        ) from None
    except (requests.RequestException, HTTPError, OSError) as exc:
        if _DISTRUST in str(exc):
            raise TransportError(
                f"{what} has a certificate that is not trusted here.",
                hint="If its authority is a private one of the gateway, name its file in gateway_ca_file.",
            ) from None
        unsent = _cause(exc, ConnectTimeoutError)
        if unsent is None:
            raise NoAnswerError(f"{what} gave no answer: {_reason(exc)}.", hint=_CHECK) from None
        raise UnreachableError(f"{what} cannot be connected to: {_obstacle(unsent, timeout)}.", hint=_CHECK) from None


def _obstacle(unsent: BaseException, timeout: float) -> str:
    """Why nothing of a call was received."""
    if isinstance(unsent, NothingTakenError):
        return "it took nothing of the request"
    if isinstance(unsent, NewConnectionError):
        return _reason(unsent)
    return f"no connection within {min(_CONNECT_TIMEOUT, timeout):g} s"


def _too_slow(what: str, timeout: float) -> CallTimeoutError:
    return CallTimeoutError(
        f"{what} did not answer within {timeout:g} s.", hint="Give the operation a longer timeout, or call_timeout."
    )


def _reason(exc: BaseException) -> str:
    """What the operating system said, deep inside the library's errors."""
    *_, innermost = _causes(exc)
    said = (error.strerror for error in _causes(exc) if isinstance(error, OSError) and isinstance(error.strerror, str))
    return next(filter(None, said), type(innermost).__name__)


def _cause(exc: BaseException, kind: type[BaseException]) -> BaseException | None:
    return next((error for error in _causes(exc) if isinstance(error, kind)), None)


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """An error and those inside it, from the outermost to the innermost."""
    seen: list[BaseException] = []
    inner: BaseException | None = exc
    while inner is not None and inner not in seen:
        yield inner
        seen.append(inner)
        causes = [getattr(inner, "reason", None), *inner.args, inner.__cause__, inner.__context__]
        inner = next((cause for cause in causes if isinstance(cause, BaseException)), None)


def _shown(url: str) -> str:
    """A URL without what may be secret in it."""
    return re.split("[?#]", masked(url))[0]


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port
