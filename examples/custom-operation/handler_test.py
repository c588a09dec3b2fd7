import sqlite3
from contextlib import closing

import pytest

from faasflow.testing import FlowTester

from .handler import define


@pytest.fixture
def outbox(tmp_path, monkeypatch):
    monkeypatch.setenv("outbox", str(tmp_path / "outbox.db"))
    return tmp_path / "outbox.db"


def test_an_order_is_in_the_outbox_once_and_confirmed(outbox):
    tester = FlowTester(define)

    assert tester.run(b"tea", request_id="r1").result == b"published: order of tea"
    assert tester.run(b"tea", request_id="r1").result == b"published: order of tea"
    assert messages(outbox) == [("orders", "order of tea")]


def test_an_outbox_that_is_away_is_tried_again(outbox):
    outbox.mkdir()

    outcome = FlowTester(define).run(b"tea")

    assert outcome.error.startswith("publish: OperationalError")
    assert outcome.failure.attempt == 5


def messages(outbox):
    with closing(sqlite3.connect(outbox)) as database:
        return list(database.execute("SELECT topic, message FROM outbox"))
