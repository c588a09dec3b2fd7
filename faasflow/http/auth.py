"""Who may use a flow function: callers that sign their requests with its secret.

A start may be signed as `faas-cli invoke --sign` does it, which covers the body alone. Everything else, and a start too
where the settings say so, is signed as a whole; see `faasflow.signature`. Bodies are read in pieces: one with a wrong
signature is never held in memory.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from faasflow import signature
from faasflow.engine.callback import SIGNATURE_HEADER
from faasflow.errors import UnauthorizedError
from faasflow.signature import TOLERANCE, Signature

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from faasflow.config import Settings

_PIECE = 64 * 1024


class Gate:
    """Lets through what is signed with the key of `flow`. `sha1=` is taken only where the settings allow it by name."""

    def __init__(self, settings: Settings, flow: str) -> None:
        self._key = settings.key or b""
        self._flow = flow
        self._methods = ("sha256", "sha1") if settings.allow_sha1 else ("sha256",)
        self._is_strict = settings.signs_starts_whole

    def check(self, environ: WSGIEnvironment, *, is_start: bool) -> None:
        """`UnauthorizedError` unless a request is signed. Its body can be read from the beginning afterwards."""
        may_sign_body = is_start and not self._is_strict
        whole = environ.get("HTTP_X_FAAS_FLOW_SIGNATURE", "")
        of_body = environ.get("HTTP_X_HUB_SIGNATURE", "")
        fault = self._fault_of_body(environ, of_body) if may_sign_body and of_body else None
        if may_sign_body and of_body and fault is None:
            return
        if whole or fault is None:
            fault = self._fault_of_whole(environ, whole)
        if fault is not None:
            raise self._refused(fault, may_sign_body=may_sign_body)

    def _fault_of_body(self, environ: WSGIEnvironment, given: str) -> str | None:
        method, _, digest = given.strip().partition("=")
        if method not in self._methods or not self._key:
            return "is not signed with a method that is accepted here"
        expected = hmac.new(self._key, b"", method)
        for piece in _body(environ):
            expected.update(piece)
        is_right = _is_same(expected.hexdigest(), digest)
        return None if is_right else "is not signed with the key of this flow, or its body was changed"

    def _fault_of_whole(self, environ: WSGIEnvironment, given: str) -> str | None:
        if not given:
            return "carries no signature"
        parsed = signature.parse(given)
        if parsed is None or not self._key:
            return "carries a signature of a form that is not known"
        signed_at, digest = parsed
        age = time.time() - signed_at
        if abs(age) > TOLERANCE:
            return (
                f"was signed {abs(age):.0f} s {'ago' if age > 0 else 'ahead of the clock'}; {TOLERANCE} s are accepted"
            )
        expected = self._signature(environ, signed_at)
        for piece in _body(environ):
            expected.update(piece)
        if _is_same(expected.digest, digest):
            return None
        return "is not signed with the key of this flow, or something of it was changed"

    def _signature(self, environ: WSGIEnvironment, signed_at: int) -> Signature:
        return Signature(
            self._key,
            flow=self._flow,
            method=environ["REQUEST_METHOD"],
            path=environ["PATH_INFO"],
            query=_as_sent(environ.get("QUERY_STRING", "")),
            time=signed_at,
        )

    def _refused(self, fault: str, *, may_sign_body: bool) -> UnauthorizedError:
        form = " or ".join(f"{method}=<hex>" for method in self._methods)
        hint = f"Send {signature.HEADER}: t=<unix seconds>,v1=<hex>, which covers method, path, query and body"
        if may_sign_body:
            hint += f", or {SIGNATURE_HEADER}: {form}, the HMAC of the body with the secret faasflow-hmac-secret"
        return UnauthorizedError(f"The request {fault}.", hint=f"{hint}. faasflow signs so with --key-file FILE.")


def _body(environ: WSGIEnvironment) -> Iterator[bytes]:
    stream = environ["wsgi.input"]
    while piece := stream.read(_PIECE):
        yield piece
    stream.seek(0)


def _as_sent(text: str) -> str:
    """A query as WSGI gives it, as text whose bytes in UTF-8 are those that were sent."""
    return text.encode("latin-1").decode("utf-8", "surrogateescape")


def _is_same(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.lower().encode("utf-8", "replace"))
