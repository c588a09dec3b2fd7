import json

import pytest

from faasflow.testing import FlowTester, RequestState

from .handler import define

HEAD = "date,precipitation,temp_max,temp_min,wind,weather\n"
DAY = "2012/01/01,0.0,12.8,5.0,4.7,drizzle\n"


def temperature(*, hot_days):
    extreme = {"value": 34.4, "date": "2012-08-16"}
    means = {"mean_high": 15.0, "mean_low": 7.0, "monthly_high": {}, "monthly_low": {}}
    return {"days": 1, "hottest": extreme, "coldest": extreme, "hot_days": hot_days, "frost_days": 0, **means}


def precipitation(*, dry_days=3):
    spell = {"days": dry_days, "start": "2012-07-23", "end": "2012-09-08"}
    return {
        "total": 1226.0,
        "rain_days": 2,
        "wettest": {"value": 54.1, "date": "2012-11-19"},
        "dry_spell": spell if dry_days else None,
        "monthly": {},
    }


def wind(*, strongest=9.5):
    return {"mean": 3.4, "windiest": {"value": strongest, "date": "2012-12-17"}, "fresh_days": 4}


@pytest.fixture
def make_tester(tmp_path, monkeypatch):
    monkeypatch.setenv("report_dir", str(tmp_path / "reports"))

    def make(warm, rain, wind):
        tester = FlowTester(define)
        answers = {"temperature": warm, "precipitation": rain, "wind": wind}
        for part, answer in answers.items():
            tester.function(f"{part}-statistics", lambda table, answer=answer: json.dumps(answer).encode())
        tester.function("render-report", lambda report: b"<h1>page</h1>")
        return tester

    return make


def test_an_ordinary_year_is_said_to_be_ordinary(make_tester):
    tester = make_tester(temperature(hot_days=19), precipitation(dry_days=0), wind())

    outcome = tester.run((HEAD + DAY).encode())

    assert "ordinary no year stands out" in outcome.result.decode()
    assert [path for path in outcome.ran if "findings=" in path] == ["findings=ordinary/ordinary"]


def test_says_what_was_remarkable(make_tester):
    tester = make_tester(temperature(hot_days=20), precipitation(dry_days=48), wind(strongest=10.8))

    said = tester.run((HEAD + DAY).encode()).result.decode().splitlines()

    assert "heat     2012: 20 days of 30 °C or more, up to 34.4 °C on 16 August" in said
    assert "drought  2012: 48 days without rain, 23 July to 8 September" in said
    assert "storm    2012: a mean wind of 10.8 m/s on 17 December" in said
    assert not any(line.startswith("ordinary") for line in said)


def test_writes_the_page_and_says_where(make_tester, tmp_path):
    tester = make_tester(temperature(hot_days=0), precipitation(), wind())

    outcome = tester.run((HEAD + DAY).encode(), request_id="a-request")

    path = tmp_path / "reports" / "weather-a-request.html"
    assert path.read_text() == "<h1>page</h1>"
    assert outcome.result.decode().endswith(f"The page with the chart: {path}\n")


def test_has_a_branch_for_every_year_in_the_order_of_time(make_tester):
    tester = make_tester(temperature(hot_days=0), precipitation(), wind())
    body = HEAD + DAY.replace("2012", "2014") + DAY + DAY.replace("01/01", "01/02")

    tester.run(body.encode())

    assert [call.body.decode().splitlines()[1:] for call in tester.calls("wind-statistics")] == [
        ["2012-01-01,0.0,12.8,5.0,4.7,drizzle", "2012-01-02,0.0,12.8,5.0,4.7,drizzle"],
        ["2014-01-01,0.0,12.8,5.0,4.7,drizzle"],
    ]


def test_names_the_place_that_the_query_names(make_tester):
    tester = make_tester(temperature(hot_days=0), precipitation(), wind())

    outcome = tester.run((HEAD + DAY).encode(), query={"place": "Oslo"})

    assert outcome.result.decode().startswith("The weather of Oslo, 2012: 1 day\n")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("date,wind\n", "Line 1 has no column 'precipitation'. The columns are date, precipitation, temp_max,"),
        (HEAD, "Line 2 is missing: the CSV has a head and no day."),
        (HEAD + DAY + "2012/02/30,0,1,1,1,sun\n", "Line 3, column 'date': '2012/02/30' is no date."),
        (HEAD + DAY + "2012/01/02,0,warm,1,1,sun\n", "Line 3, column 'temp_max': 'warm' is no number."),
        (HEAD + "2012/01/01,0,1,1,nan,sun\n", "Line 2, column 'wind': 'nan' is no number."),
        (HEAD + "2012/01/01,0,1\n", "Line 2, column 'temp_min': '' is no number."),
        (HEAD + DAY + DAY, "Line 3, column 'date': 2012-01-01 is there twice."),
    ],
)
def test_a_broken_csv_fails_with_the_line_and_the_column(make_tester, body, text):
    tester = make_tester(temperature(hot_days=0), precipitation(), wind())

    outcome = tester.run(body.encode())

    assert outcome.state is RequestState.FAILED
    assert text in outcome.error
