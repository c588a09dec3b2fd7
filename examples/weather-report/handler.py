"""From daily weather records to a report: the statistics of every year, what was remarkable, and a page with a chart.

    read → years[ table → { temperature, precipitation, wind } → year ] → findings[ heat | drought | wet | … ]
         → report → { page, summary } → publish

Without a body it reads the records of Seattle that lie beside it. Post your own with the same columns, and name the
place in the query: `?place=Oslo`. The page is written to the folder `report_dir` of the environment (`reports` without
it). The functions that do the sums and draw the chart know nothing of this flow: they are sent CSV or JSON, and answer.
"""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from .records import Day, as_csv, read_days
from .years import REMARKABLE, Year, in_words, span

FOLDER = "report_dir"
RECORDS = Path(__file__).parent / "data" / "seattle-weather.csv"


def define(flow, context):
    place = context.query.get("place", "Seattle")
    dag = flow.dag()
    dag.node("read").modify(read)

    year = dag.foreach_branch("years", by_year, aggregator=all_years)
    year.node("table").modify(as_csv)
    year.node("temperature").apply("temperature-statistics")
    year.node("precipitation").apply("precipitation-statistics")
    year.node("wind").apply("wind-statistics")
    year.node("year", aggregator=one_year)
    for part in ("temperature", "precipitation", "wind"):
        year.edge("table", part)
        year.edge(part, "year")

    cases = dag.conditional_branch("findings", [*REMARKABLE, "ordinary"], what_to_report, aggregator=all_findings)
    for kind, sentences in REMARKABLE.items():
        cases[kind].node(kind).modify(sentences)
    cases["ordinary"].node("ordinary").modify(ordinary)

    dag.node("report", aggregator=partial(report, place=place))
    dag.node("page").apply("render-report")
    dag.node("summary").modify(summarise)
    dag.node("publish", aggregator=partial(publish, request_id=context.request_id))

    dag.edge("read", "years")
    dag.edge("years", "findings")
    dag.edge("years", "report")
    dag.edge("findings", "report")
    for part in ("page", "summary"):
        dag.edge("report", part)
        dag.edge(part, "publish")


def read(body: str) -> list[Day]:
    """The days that were posted, or those of Seattle."""
    return read_days(body or RECORDS.read_text(encoding="utf-8"))


def by_year(days: list[Day]) -> dict[str, list[Day]]:
    """One branch for each year."""
    years = {}
    for day in days:
        years.setdefault(str(day.date.year), []).append(day)
    return years


def one_year(year: Year) -> Year:
    """The join of a year: its fields are the ids of the three nodes, their values what the functions answered."""
    return year


def all_years(years: dict[str, Year]) -> dict[str, Year]:
    """The join over the branches: the years by their names."""
    return years


def what_to_report(years: dict[str, Year]) -> list[str]:
    """The condition: whatever was remarkable in some year; if nothing was, that."""
    return [kind for kind, sentences in REMARKABLE.items() if sentences(years)] or ["ordinary"]


def ordinary(years: dict[str, Year]) -> list[str]:
    """What is said where nothing was remarkable."""
    return ["no year stands out"]


def all_findings(findings: dict[str, list[str]]) -> dict[str, list[str]]:
    """The join over the cases that were taken."""
    return findings


@dataclass
class Findings:
    """What `report` joins: its fields are the ids of the two nodes before it."""

    years: dict[str, Year]
    findings: dict[str, list[str]]


@dataclass
class Report(Findings):
    title: str


def report(parts: Findings, *, place: str) -> Report:
    """Everything there is to say."""
    return Report(parts.years, parts.findings, f"The weather of {place}, {span(parts.years)}")


def summarise(report: Report) -> str:
    """The report for a terminal."""
    return in_words(report.title, report.years, report.findings)


@dataclass
class Rendered:
    """What `publish` joins."""

    page: str
    summary: str


def publish(rendered: Rendered, *, request_id: str) -> str:
    """Write the page; the result of the flow is the summary and where the page is. A second run rewrites it."""
    folder = Path(os.environ.get(FOLDER) or "reports").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"weather-{quote(request_id, safe='')}.html"  # an id may be any text
    path.write_text(rendered.page, encoding="utf-8")
    return f"{rendered.summary}\n\nThe page with the chart: {path}\n"
