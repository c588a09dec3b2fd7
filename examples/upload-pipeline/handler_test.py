import json

import pytest

from faasflow.testing import FlowTester, RequestState

from .handler import define


def make_tester(faces):
    tester = FlowTester(define)
    tester.function("face-detect", lambda image: json.dumps({"faces": [{"left": 0}] * faces}).encode())
    tester.function("colorization", lambda image: b"coloured " + image)
    tester.function("image-resizer", lambda image: b"small " + image)
    tester.function("file-storage", lambda image: b"kept")
    return tester


def test_stores_the_edited_picture_under_its_name():
    tester = make_tester(faces=1)

    outcome = tester.run(b"picture", query={"file": "me.pgm"})

    assert outcome.result == b"kept"
    (call,) = tester.calls("file-storage")
    assert (call.body, call.query) == (b"small coloured picture", [("file", "me.pgm")])
    assert outcome.ran == ["receive", "check", "edit", "store", "$finally"]


@pytest.mark.parametrize("faces", [0, 2])
def test_refuses_what_is_not_a_portrait_and_says_why(faces):
    tester = make_tester(faces)

    outcome = tester.run(b"picture", query={"file": "me.pgm"})

    assert outcome.state is RequestState.FAILED
    assert json.loads(outcome.result)["file"] == "me.pgm"
    assert f"'me.pgm' shows {faces} faces." in json.loads(outcome.result)["error"]
    assert tester.calls("file-storage") == []


def test_asks_for_a_name():
    outcome = make_tester(faces=1).run(b"picture")

    assert "Give ?file=<name>." in json.loads(outcome.result)["error"]


@pytest.mark.parametrize("faces", [0, 1])
def test_the_copy_of_the_picture_is_gone_at_the_end(faces):
    tester = make_tester(faces)

    outcome = tester.run(b"picture", query={"file": "me.pgm"})

    assert tester.state.configure("flow", outcome.request_id).list("data/") == {}
