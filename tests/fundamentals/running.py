"""How the tests of this folder run a flow. They know only `RunningFlow`, so that they hold wherever a flow runs: here
in the process of the test, elsewhere in processes of its own. Stand-ins for functions always run in the test's
process.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

from faasflow.errors import CallTimeoutError
from faasflow.ports import DataStore, StateStore
from faasflow.testing import FlowTester, Outcome, OutgoingCall, RequestState, Response

Query = Mapping[str, Any]
NO_ANSWER = Response(0, {}, b"")
"""What a stand-in returns to keep its caller waiting until that gives up."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that a stand-in got. Header names are in small letters."""

    method: str
    query: list[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes


StandIn = Callable[[bytes], bytes | str | Response]
"""What answers in place of a function: 200 with what it returns, 500 where it raises, or the `Response` it returns."""


class RunningFlow(Protocol):
    """A flow that is there to be used, with stand-ins for the functions it calls."""

    def start(self, body: bytes = b"", *, query: Query | None = None, request_id: str = "", callback: str = "") -> str:
        """Start a request and give its id. `RequestConflictError` if the id was used with another body."""

    def wait(self, request_id: str) -> Outcome:
        """What became of a request, once it has ended or is paused."""

    def run(
        self, body: bytes = b"", *, query: Query | None = None, request_id: str = "", callback: str = ""
    ) -> Outcome:
        """`start`, then `wait`."""

    def pause(self, request_id: str) -> None:
        """Start no new node of the request."""

    def resume(self, request_id: str) -> None:
        """Go on with the request."""

    def stop(self, request_id: str) -> None:
        """End the request."""

    def state(self, request_id: str) -> RequestState:
        """The state of the request now. `RequestNotFoundError` if there is no such request."""

    def calls(self, name: str) -> list[Call]:
        """The calls that a stand-in got, in order."""

    def url(self, name: str) -> str:
        """Where the same stand-in is reached by URL."""


class InProcessFlow:
    """A flow in the process of the test."""

    def __init__(
        self, define: Callable[..., Any], functions: Mapping[str, StandIn], *, state: StateStore, data: DataStore
    ) -> None:
        self._tester = FlowTester(define, state=state, data=data)
        self._calls: dict[str, list[Call]] = defaultdict(list)
        for name, code in functions.items():
            for target in (name, self.url(name)):
                self._tester.answer(target, self._stand_in(name, code))

    def start(self, body: bytes = b"", *, query: Query | None = None, request_id: str = "", callback: str = "") -> str:
        text = urlencode(query or {}, doseq=True)
        return self._tester.engine.start(body, query=text, request_id=request_id, callback=callback).request_id

    def wait(self, request_id: str) -> Outcome:
        self._tester.drain()
        return self._tester.outcome(request_id)

    def run(
        self, body: bytes = b"", *, query: Query | None = None, request_id: str = "", callback: str = ""
    ) -> Outcome:
        return self.wait(self.start(body, query=query, request_id=request_id, callback=callback))

    def pause(self, request_id: str) -> None:
        self._tester.engine.pause(request_id)

    def resume(self, request_id: str) -> None:
        self._tester.engine.resume(request_id)

    def stop(self, request_id: str) -> None:
        self._tester.engine.stop(request_id)

    def state(self, request_id: str) -> RequestState:
        return self._tester.engine.state(request_id)

    def calls(self, name: str) -> list[Call]:
        return self._calls[name]

    def url(self, name: str) -> str:
        return f"http://stand-ins.example/{name}"

    def _stand_in(self, name: str, code: StandIn) -> Callable[[OutgoingCall], Response]:
        def answer(call: OutgoingCall) -> Response:
            headers = {key.lower(): value for key, value in call.headers.items()}
            self._calls[name].append(Call(call.method, call.query, headers, call.body))
            response = answered(code, call.body)
            if response is NO_ANSWER:
                raise CallTimeoutError(f"Function {name!r} did not answer within {call.timeout:g} s.")
            return response

        return answer


def answered(code: StandIn, body: bytes) -> Response:
    """What a stand-in answers."""
    try:
        result = code(body)
    except Exception as error:
        return Response(500, {}, f"{type(error).__name__}: {error}".encode())
    if isinstance(result, Response):
        return result
    return Response(200, {}, result.encode() if isinstance(result, str) else result)
