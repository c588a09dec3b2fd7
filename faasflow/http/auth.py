"""Who may use a flow function: callers that sign the body with its secret, as `faas-cli invoke --sign` does."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from faasflow.engine.callback import SIGNATURE_HEADER
from faasflow.errors import UnauthorizedError

if TYPE_CHECKING:
    from faasflow.config import Settings


class Gate:
    """Lets through what is signed: `X-Hub-Signature: sha256=<hex>` over the body, which is empty for most requests but
    the start. `sha1=` is taken only where the settings allow it by name."""

    def __init__(self, settings: Settings) -> None:
        self._key = settings.key
        self._methods = ("sha256", "sha1") if settings.allow_sha1 else ("sha256",)

    def check(self, signature: str, body: bytes) -> None:
        """`UnauthorizedError` unless `signature` is that of `body`."""
        method, _, digest = signature.strip().partition("=")
        if not signature:
            raise self._refused("carries no signature")
        if method not in self._methods or self._key is None:
            raise self._refused("is not signed with a method that is accepted here")
        expected = hmac.new(self._key, body, method).hexdigest()
        if not hmac.compare_digest(expected.encode(), digest.lower().encode("utf-8", "replace")):
            raise self._refused("is not signed with the key of this flow, or its body was changed")

    def _refused(self, reason: str) -> UnauthorizedError:
        form = " or ".join(f"{method}=<hex>" for method in self._methods)
        return UnauthorizedError(
            f"The request {reason}.",
            hint=f"Send {SIGNATURE_HEADER}: {form}, the HMAC of the body with the secret faasflow-hmac-secret.",
        )
