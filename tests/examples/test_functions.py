"""What the functions that the examples call answer, each called in the style of its template."""

from __future__ import annotations

import hashlib
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.examples.support import PORTRAIT, post


@pytest.mark.parametrize(
    ("function", "body", "answer"),
    [
        ("func1", b"hello", b"func1(hello)"),
        ("func2", b"hello", b"func2(hello)"),
        ("fake-storage", b"hello", b"stored: hello"),
        ("square", b"-12", b"144"),
        ("add", b"1, 2,3,", b"6"),
    ],
)
def test_small_functions_answer_text(function: str, body: bytes, answer: bytes) -> None:
    response = post(function, body)

    assert (response.status_code, response.data) == (200, answer)


def test_add_refuses_what_is_not_a_number() -> None:
    response = post("add", b"1,two")

    assert response.status_code == 400
    assert b"'two'" in response.data


def test_face_detect_finds_the_one_bright_oval_of_the_portrait() -> None:
    answer = json.loads(post("face-detect", PORTRAIT).data)

    assert answer == {"faces": [{"left": 11, "top": 7, "right": 36, "bottom": 40}]}


def test_face_detect_keeps_patches_apart_that_touch_only_around_the_edge_of_the_image() -> None:
    row = b"\x00" * 4
    ends = b"\xff\xff" * 4
    image = b"P5 # two strips\n16 9\n255\n" + (ends + row + row).ljust(16, b"\x00") * 9

    faces = json.loads(post("face-detect", image).data)["faces"]

    assert faces == [{"left": 0, "top": 0, "right": 7, "bottom": 8}]


def test_face_detect_finds_nothing_in_the_dark() -> None:
    assert post("face-detect", b"P5 8 8 255\n" + b"\x10" * 64).json == {"faces": []}


@pytest.mark.parametrize(
    ("function", "body"),
    [
        ("face-detect", b"GIF89a"),
        ("face-detect", b"P5 8 8 255\n" + b"\x10" * 63),
        ("colorization", b"P6 1 1 255\n\x00\x00\x00"),
        ("image-resizer", b"P5 1 1 255\n\x00"),
    ],
)
def test_image_functions_refuse_what_they_cannot_read(function: str, body: bytes) -> None:
    assert post(function, body).status_code == 400


def test_colorization_keeps_black_and_turns_white_to_sepia() -> None:
    assert post("colorization", b"P5 2 1 255\n\x00\xff").data == b"P6\n2 1\n255\n\x00\x00\x00\xff\xdb\xab"


def test_image_resizer_answers_the_mean_of_four_pixels() -> None:
    rows = bytes([0, 0, 0, 100, 0, 4, 9, 9, 9]) + bytes([50, 0, 0, 250, 200, 4, 9, 9, 9]) + bytes(9)

    answer = post("image-resizer", b"P6 3 3 255\n" + rows)

    assert answer.data == b"P6\n1 1\n255\n" + bytes([100, 50, 2])


def test_file_storage_keeps_the_bytes_under_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("storage_dir", str(tmp_path / "files"))

    answer = post("file-storage", PORTRAIT, "file=me.pgm").json

    assert answer == {"file": "me.pgm", "bytes": len(PORTRAIT), "sha256": hashlib.sha256(PORTRAIT).hexdigest()}
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "files").iterdir()] == [("me.pgm", PORTRAIT)]


@pytest.mark.parametrize("name", ["", "..", "../me.pgm", "a/b", "a\\b", ".hidden"])
def test_file_storage_refuses_names_that_leave_its_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("storage_dir", str(tmp_path / "files"))

    assert post("file-storage", b"x", f"file={name}").status_code == 400
    assert list(tmp_path.iterdir()) == []


def test_temperature_statistics_of_three_days() -> None:
    table = b"date,temp_max,temp_min\n2012-01-30,30.0,0.0\n2012-01-31,29.9,-0.1\n2012-02-01,30.0,10\n"

    assert post("temperature-statistics", table).json == {
        "days": 3,
        "mean_high": 29.97,
        "mean_low": 3.3,
        "hottest": {"value": 30.0, "date": "2012-01-30"},
        "coldest": {"value": -0.1, "date": "2012-01-31"},
        "hot_days": 2,
        "frost_days": 1,
        "monthly_high": {"2012-01": 29.95, "2012-02": 30.0},
        "monthly_low": {"2012-01": -0.05, "2012-02": 10.0},
    }


def rain(*amounts: float | None) -> bytes:
    lines = [f"2012-01-{day:02},{amount}" for day, amount in enumerate(amounts, 1) if amount is not None]
    return "\n".join(["date,precipitation", *lines]).encode()


def test_precipitation_statistics_of_five_days() -> None:
    assert post("precipitation-statistics", rain(0, 1.5, 0, 0, 2.5)).json == {
        "total": 4.0,
        "rain_days": 2,
        "wettest": {"value": 2.5, "date": "2012-01-05"},
        "dry_spell": {"days": 2, "start": "2012-01-03", "end": "2012-01-04"},
        "monthly": {"2012-01": 4.0},
    }


def test_a_missing_day_ends_a_dry_spell_and_the_first_of_two_counts() -> None:
    spell = json.loads(post("precipitation-statistics", rain(1, 0, 0, None, 0, 0)).data)["dry_spell"]

    assert spell == {"days": 2, "start": "2012-01-02", "end": "2012-01-03"}


def test_there_is_no_dry_spell_where_it_rains_every_day() -> None:
    assert json.loads(post("precipitation-statistics", rain(1, 1)).data)["dry_spell"] is None


def test_wind_statistics_of_three_days() -> None:
    table = b"date,wind\n2012-01-01,7.9\n2012-01-02,8.0\n2012-01-03,8.0\n"

    assert json.loads(post("wind-statistics", table).data) == {
        "mean": 7.97,
        "windiest": {"value": 8.0, "date": "2012-01-02"},
        "fresh_days": 2,
    }


REPORT = {
    "title": "The weather of <Here> & there",
    "years": {
        "2012": {
            "temperature": {
                "mean_high": 15.0,
                "mean_low": 5.0,
                "hottest": {"value": 34.4, "date": "2012-08-16"},
                "coldest": {"value": -3.0, "date": "2012-01-01"},
                "hot_days": 8,
                "frost_days": 18,
                "monthly_high": {"2012-01": 7.0, "2012-02": 9.0},
                "monthly_low": {"2012-01": 1.0, "2012-02": 3.0},
            },
            "precipitation": {"total": 0.0, "rain_days": 0, "dry_spell": None, "monthly": {"2012-01": 0.0}},
            "wind": {"mean": 3.4},
        }
    },
    "findings": {"wet": ["2012: <b>rain</b>"]},
}


def test_render_report_answers_a_page_that_needs_nothing_from_elsewhere() -> None:
    response = post("render-report", json.dumps(REPORT).encode())
    page = response.text

    assert (response.status_code, response.mimetype) == (200, "text/html")
    assert "<h1>The weather of &lt;Here&gt; &amp; there</h1>" in page
    assert "2012: &lt;b&gt;rain&lt;/b&gt;" in page
    assert "<script" not in page
    assert "<link" not in page
    assert "src=" not in page


def test_render_report_draws_the_chart_as_svg() -> None:
    page = post("render-report", json.dumps(REPORT).encode()).text
    chart = ET.fromstring(page[page.index("<svg") : page.index("</svg>") + len("</svg>")])

    words = {text.text for text in chart.iter("{http://www.w3.org/2000/svg}text")}
    assert {"mean high", "mean low", "hottest day", "precipitation", "mm a month", "34.4"} <= words


def test_render_report_answers_the_same_bytes_for_the_same_report() -> None:
    body = json.dumps(REPORT).encode()

    assert post("render-report", body).data == post("render-report", body).data
