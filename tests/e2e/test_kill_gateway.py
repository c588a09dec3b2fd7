"""A laptop's installation under kill -9: gateway, queue, function processes and stores are the real ones."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.e2e.conftest import Installation
from tests.support import wait_until

REQUESTS = 200


def body_of(number: int) -> bytes:
    return " ".join(f"w{number}-{index}" for index in range(number % 5)).encode()


def result_of(number: int) -> str:
    return f"{number % 5}: " + " ".join(f"W{number}-{index}" for index in range(number % 5))


def test_200_running_requests_finish_with_the_right_results_after_kill_9(installation: Installation) -> None:
    installation.start()
    with ThreadPoolExecutor(8) as pool:
        started = [pool.submit(installation.start_request, f"r{n}", body_of(n)) for n in range(REQUESTS)]
        wait_until(
            lambda: installation.states().get("FINISHED", 0) >= 20, "some requests to have finished", timeout=120
        )
        at_the_kill = installation.states()
        installation.kill()
        installation.start()
        ids = [future.result(timeout=120) for future in started]

    installation.wait_for({"FINISHED": REQUESTS}, timeout=180)

    assert at_the_kill.get("RUNNING", 0) > 0
    assert [installation.result(id) for id in ids] == [result_of(number) for number in range(REQUESTS)]
