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


def test_stores_the_edited_picture_once_both_halves_are_done():
    tester = make_tester(faces=1)

    outcome = tester.run(b"picture", query={"file": "me.pgm"})

    assert outcome.result == b"kept"
    (call,) = tester.calls("file-storage")
    assert (call.body, call.query) == (b"small coloured picture", [("file", "me.pgm")])
    assert outcome.ran[-1] == "upload"


@pytest.mark.parametrize("faces", [0, 2])
def test_refuses_what_is_not_a_portrait(faces):
    tester = make_tester(faces)

    outcome = tester.run(b"picture", query={"file": "me.pgm"})

    assert outcome.state is RequestState.FAILED
    assert f"'me.pgm' shows {faces} faces." in outcome.error
    assert tester.calls("file-storage") == []


def test_asks_for_a_name():
    assert "Give ?file=<name>." in FlowTester(define).run(b"picture").error
