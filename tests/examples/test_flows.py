"""Every example from its input to its result, with the real functions of stack.yml behind it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from faasflow.testing import RequestState
from tests.examples.support import PORTRAIT, make_tester, post


@pytest.mark.parametrize(
    ("flow", "body", "result"),
    [
        ("greet", "Ada", "Hello Ada"),
        ("sync-chain", "hello", "modifier(func2(func1(hello)))"),
        ("async-chain", "hello", "stored: modifier(func2(func1(hello)))"),
        ("parallel-branching", "hello", "stored: func1(modifier(hello)) and modifier(func2(modifier(hello)))"),
        (
            "dynamic-branching",
            "to be",
            "stored: [c1=[f1=modifier(TO) f2=modifier(BE)] c2=modifier(func1(TO BE))]",
        ),
        (
            "conditional-branching",
            "hello",
            "stored: (c1=(x2=func2(modifier(func1(modifier(hello))))) + (x3=func2(func1(modifier(hello)))))"
            " + (c2=modifier(func1(modifier(hello))))",
        ),
        (
            "mixed-branching",
            "aa-bb",
            "[foreach=[0=node2(node1(aa)) 1=node2(node1(bb))] parallel=parallel2(parallel1(aa-bb))"
            " condition=[left=node2(node1(aa-bb)) right=node2(node1(aa-bb))]]",
        ),
        (
            "nested-sub-dags",
            "x",
            "n17(n7(n5(n3(n2(n1(x))) + n4(n2(n1(x)))) + n6(n2(n1(x)))) + n11(n9(n8(n1(x))) + n10(n8(n1(x))))"
            " + n16(n14(n13(n1(x))) + n15.5(n15.3(n15.2(n15.1(n13(n1(x))))) + n15.4(n15.1(n13(n1(x)))))))",
        ),
        (
            "execution-only",
            "hello",
            "build was given 5 bytes\nprepare was given 0 bytes\nlint was given 0 bytes\ntest was given 0 bytes",
        ),
        ("sum-of-squares", "1,2,3,4", "30"),
        ("custom-operation", "tea", "published: order of tea"),
    ],
)
def test_text_flows_give_their_result(
    flow: str, body: str, result: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("outbox", str(tmp_path / "outbox.db"))
    outcome = make_tester(flow).run(body.encode())

    assert (outcome.state, outcome.result) == (RequestState.FINISHED, result.encode())


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("storage_dir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("flow", ["upload-pipeline", "upload-pipeline-dag"])
def test_upload_pipelines_store_the_coloured_portrait_at_half_its_size(flow: str, storage: Path) -> None:
    outcome = make_tester(flow).run(PORTRAIT, query={"file": "me.ppm"})

    stored = (storage / "me.ppm").read_bytes()
    assert outcome.result is not None
    assert json.loads(outcome.result) == {
        "file": "me.ppm",
        "bytes": len(stored),
        "sha256": hashlib.sha256(stored).hexdigest(),
    }
    assert stored.startswith(b"P6\n24 24\n255\n")
    assert stored == post("image-resizer", post("colorization", PORTRAIT).data).data


@pytest.mark.parametrize("flow", ["upload-pipeline", "upload-pipeline-dag"])
@pytest.mark.parametrize("faces", [0, 2])
def test_upload_pipelines_store_nothing_that_is_not_a_portrait(flow: str, faces: int, storage: Path) -> None:
    row = (b"\x00\x00" + b"\xff" * 8 * bool(faces) + b"\x00" * 8 * (not faces)) * 2
    picture = b"P5\n20 8\n255\n" + row * 8

    outcome = make_tester(flow).run(picture, query={"file": "me.ppm"})

    assert outcome.state is RequestState.FAILED
    assert f"'me.ppm' shows {faces} faces." in outcome.error
    assert list(storage.iterdir()) == []
