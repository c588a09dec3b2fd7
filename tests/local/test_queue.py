from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from faasflow.errors import GatewayError
from faasflow.local.queue import DEAD_KEPT, Draft, Queue


class HandClock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def queue(tmp_path: Path, clock: HandClock) -> Iterator[Queue]:
    queue = Queue(tmp_path / "queue.db", now=clock)
    yield queue
    queue.close()


def draft(text: str, *, key: str | None = None) -> Draft:
    return Draft("call", text.encode(), key)


def claim(queue: Queue) -> str | None:
    message = queue.claim(timeout=0)
    return None if message is None else message.payload.decode()


def test_messages_are_claimed_oldest_due_first(queue, clock):
    queue.put(draft("late"), delay=10)
    queue.put(draft("first"))
    queue.put(draft("second"))
    clock.time += 20

    assert [claim(queue) for _ in range(4)] == ["first", "second", "late", None]


def test_a_message_is_not_claimed_before_it_is_due(queue, clock):
    queue.put(draft("later"), delay=5)

    assert claim(queue) is None
    clock.time += 5
    assert claim(queue) == "later"


def test_an_acknowledged_message_is_gone_and_what_follows_from_it_is_there(queue):
    queue.put(draft("call"))
    queue.ack(queue.claim(), then=[draft("callback")])

    assert [claim(queue), claim(queue), len(queue)] == ["callback", None, 1]


def test_a_retried_message_counts_its_tries_and_comes_back_when_due(queue, clock):
    queue.put(draft("call"))
    queue.retry(queue.claim(), delay=3)

    assert claim(queue) is None
    clock.time += 3
    assert queue.claim(timeout=0).tries == 1


def test_a_released_message_is_as_if_it_had_not_been_claimed(queue):
    queue.put(draft("call"))
    queue.release(queue.claim())

    assert queue.claim(timeout=0).tries == 0


def test_a_buried_message_can_be_looked_at_and_is_not_delivered(queue):
    queue.put(draft("call"))
    queue.bury(queue.claim(), reason="no answer", then=[draft("callback")])

    assert [(dead.payload, dead.tries, dead.reason) for dead in queue.dead()] == [(b"call", 1, "no answer")]
    assert [claim(queue), claim(queue)] == ["callback", None]


def test_only_the_latest_buried_messages_are_kept(queue):
    for number in range(DEAD_KEPT + 5):
        queue.put(draft(str(number)))
        queue.bury(queue.claim(), reason="")

    assert [queue.dead()[0].payload, len(queue.dead())] == [b"5", DEAD_KEPT]


def test_a_key_is_taken_once_while_its_message_is_here(queue):
    assert queue.put(draft("one", key="k"))
    assert not queue.put(draft("again", key="k"))
    message = queue.claim()
    assert not queue.put(draft("again", key="k"))
    queue.ack(message)

    assert queue.put(draft("later", key="k"))


def test_the_next_owner_gets_everything_that_was_claimed(tmp_path, clock):
    queue = Queue(tmp_path / "queue.db", now=clock)
    queue.put(draft("claimed"))
    queue.put(draft("waiting"))
    queue.claim()
    queue.close()

    queue = Queue(tmp_path / "queue.db", now=clock)

    assert [claim(queue), claim(queue)] == ["claimed", "waiting"]
    queue.close()


def test_a_claim_that_ends_after_close_changes_nothing(tmp_path, clock):
    queue = Queue(tmp_path / "queue.db", now=clock)
    queue.put(draft("slow"))
    message = queue.claim()
    queue.close()
    queue.ack(message)

    queue = Queue(tmp_path / "queue.db", now=clock)

    assert claim(queue) == "slow"
    queue.close()


def test_a_waiting_claim_gets_what_becomes_due(tmp_path):
    queue = Queue(tmp_path / "queue.db")
    queue.put(draft("soon"), delay=0.1)

    assert queue.claim(timeout=10).payload == b"soon"
    queue.close()


def test_a_message_that_becomes_due_while_a_claim_looks_for_it_is_claimed(tmp_path):
    readings = [1000.0]
    queue = Queue(tmp_path / "queue.db", now=lambda: readings.pop(0) if len(readings) > 1 else readings[0])
    queue.put(draft("soon"), delay=5)
    readings[:] = [1004.95, 1005.05]
    claimed: list[bytes] = []
    worker = threading.Thread(target=lambda: claimed.append(queue.claim().payload), daemon=True)
    worker.start()
    worker.join(timeout=10)

    assert claimed == [b"soon"]
    queue.close()


def test_a_message_of_an_owner_whose_clock_was_ahead_does_not_wait_for_that_time(tmp_path, clock):
    queue = Queue(tmp_path / "queue.db", now=lambda: clock() + 86_400)
    queue.put(draft("tomorrow"))
    queue.close()
    queue = Queue(tmp_path / "queue.db", now=clock)
    clock.time += 60

    assert claim(queue) == "tomorrow"
    queue.close()


def test_stop_ends_a_waiting_claim_and_messages_are_still_taken(queue):
    worker = threading.Thread(target=queue.claim)
    worker.start()
    queue.stop()
    worker.join(timeout=10)

    assert not worker.is_alive()
    assert queue.put(draft("late"))
    assert claim(queue) is None


def test_every_message_is_claimed_by_exactly_one_of_many_workers(tmp_path):
    queue = Queue(tmp_path / "queue.db")
    got: list[bytes] = []

    def work() -> None:
        while (message := queue.claim(timeout=0.5)) is not None:
            got.append(message.payload)
            queue.ack(message)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for number in range(300):
        queue.put(draft(str(number)))
    for worker in workers:
        worker.join()

    assert sorted(got, key=int) == [str(number).encode() for number in range(300)]
    queue.close()


def test_a_file_that_is_no_queue_is_refused_by_name(tmp_path):
    (tmp_path / "queue.db").write_bytes(b"not a database" * 100)

    with pytest.raises(GatewayError, match=r"queue\.db.*cannot be opened"):
        Queue(tmp_path / "queue.db")
