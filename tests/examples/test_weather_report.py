"""The weather report against numbers worked out here in another way: by hand over the rows of the CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from faasflow.testing import FlowTester, Outcome, RequestState
from tests.examples.support import ROOT, make_tester

CSV = (ROOT / "examples" / "weather-report" / "data" / "seattle-weather.csv").read_text()
ROWS = list(csv.DictReader(io.StringIO(CSV)))
YEARS = ["2012", "2013", "2014", "2015"]


@pytest.fixture
def tester(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FlowTester:
    monkeypatch.setenv("report_dir", str(tmp_path / "reports"))
    return make_tester("weather-report")


def rows_of(year: str) -> list[dict[str, str]]:
    return [row for row in ROWS if row["date"].startswith(year)]


def numbers(year: str, column: str) -> list[float]:
    return [float(row[column]) for row in rows_of(year)]


def longest_run_without_rain(year: str) -> int:
    days = "".join("." if row["precipitation"] == "0.0" else "x" for row in rows_of(year))
    return max(len(run) for run in re.findall(r"\.+", days))


def statistics_sent_to_the_renderer(tester: FlowTester) -> dict[str, Any]:
    (call,) = tester.calls("render-report")
    report: dict[str, Any] = json.loads(call.body)
    return report


def text(outcome: Outcome) -> str:
    assert outcome.state is RequestState.FINISHED, outcome.error
    assert outcome.result is not None
    return outcome.result.decode()


@pytest.mark.parametrize("year", YEARS)
def test_the_numbers_of_each_year_are_those_of_the_records(tester: FlowTester, year: str) -> None:
    tester.run()

    found = statistics_sent_to_the_renderer(tester)["years"][year]
    highs, lows, rain, wind = (numbers(year, name) for name in ("temp_max", "temp_min", "precipitation", "wind"))
    assert found["temperature"] == {
        "days": len(highs),
        "mean_high": pytest.approx(sum(highs) / len(highs), abs=0.005),
        "mean_low": pytest.approx(sum(lows) / len(lows), abs=0.005),
        "hottest": first(year, "temp_max", max(highs)),
        "coldest": first(year, "temp_min", min(lows)),
        "hot_days": len([high for high in highs if high >= 30]),
        "frost_days": len([low for low in lows if low < 0]),
        "monthly_high": monthly(year, "temp_max", mean, 0.005),
        "monthly_low": monthly(year, "temp_min", mean, 0.005),
    }
    assert found["precipitation"]["total"] == pytest.approx(sum(rain), abs=0.05)
    assert found["precipitation"]["rain_days"] == len(rain) - rain.count(0)
    assert found["precipitation"]["wettest"] == first(year, "precipitation", max(rain))
    assert found["precipitation"]["dry_spell"]["days"] == longest_run_without_rain(year)
    assert found["precipitation"]["monthly"] == monthly(year, "precipitation", sum, 0.05)
    assert found["wind"] == {
        "mean": pytest.approx(sum(wind) / len(wind), abs=0.005),
        "windiest": first(year, "wind", max(wind)),
        "fresh_days": len([speed for speed in wind if speed >= 8]),
    }


def first(year: str, column: str, value: float) -> dict[str, Any]:
    day = next(row["date"] for row in rows_of(year) if float(row[column]) == value)
    return {"value": value, "date": day.replace("/", "-")}


def monthly(year: str, column: str, combine: Any, tolerance: float) -> dict[str, Any]:
    months = sorted({row["date"][:7] for row in rows_of(year)})
    assert len(months) == 12
    return {
        month.replace("/", "-"): pytest.approx(
            combine(float(row[column]) for row in ROWS if row["date"].startswith(month)), abs=tolerance
        )
        for month in months
    }


def test_the_summary_has_a_line_for_each_year_and_what_was_remarkable(tester: FlowTester) -> None:
    lines = text(tester.run()).splitlines()

    assert lines[0] == "The weather of Seattle, 2012 to 2015: 1461 days"
    assert [line.split()[0] for line in lines[3:7]] == YEARS
    for year, line in zip(YEARS, lines[3:7], strict=True):
        assert f"{sum(numbers(year, 'temp_max')) / len(rows_of(year)):.1f} °C" in line
        assert f"{sum(numbers(year, 'precipitation')):.0f} mm" in line
        assert f"{longest_run_without_rain(year)} days from" in line
    assert {line.split()[0] for line in lines[8:-2]} == {"heat", "drought", "wet"}


def test_what_is_remarkable_follows_from_the_numbers(tester: FlowTester) -> None:
    tester.run()

    said = statistics_sent_to_the_renderer(tester)["findings"]
    totals = {year: sum(numbers(year, "precipitation")) for year in YEARS}
    usual = sum(totals.values()) / len(totals)
    named = {kind: [sentence.split(":")[0] for sentence in sentences] for kind, sentences in said.items()}
    assert named == {
        "heat": [year for year in YEARS if len([high for high in numbers(year, "temp_max") if high >= 30]) >= 20],
        "drought": [year for year in YEARS if longest_run_without_rain(year) >= 30],
        "wet": [year for year in YEARS if totals[year] > 1.1 * usual],
    }
    assert not [year for year in YEARS if max(numbers(year, "wind")) >= 10.8]


def test_the_page_is_where_the_summary_says_and_holds_the_chart(tester: FlowTester, tmp_path: Path) -> None:
    last = text(tester.run(request_id="a-request")).splitlines()[-1]

    path = tmp_path / "reports" / "weather-a-request.html"
    page = path.read_text()
    assert last == f"The page with the chart: {path}"
    assert "<h1>The weather of Seattle, 2012 to 2015</h1>" in page
    assert page.count("<svg") == 1
    assert [year for year in YEARS if f"<th>{year}</th>" in page] == YEARS


def test_posted_records_give_the_same_report_as_the_shipped_ones(tester: FlowTester) -> None:
    shipped = text(tester.run(request_id="a-request"))
    posted = text(
        make_tester("weather-report").run(("\ufeff" + CSV).replace("\n", "\r\n").encode(), request_id="a-request")
    )

    assert posted == shipped


def test_records_of_one_day_are_enough(tester: FlowTester) -> None:
    head, day = CSV.splitlines()[:2]

    lines = text(tester.run(f"{head}\n{day}".encode(), query={"place": "Oslo"})).splitlines()

    assert lines[0] == "The weather of Oslo, 2012: 1 day"
    assert "ordinary no year stands out" in lines


def test_without_report_dir_the_page_goes_to_the_folder_reports(
    tester: FlowTester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("report_dir")
    monkeypatch.chdir(tmp_path)

    tester.run(request_id="a-request")

    assert (tmp_path / "reports" / "weather-a-request.html").is_file()
