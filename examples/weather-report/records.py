"""Daily weather records as CSV: reading them, with an error that names line and column, and writing them."""

import csv
import io
import math
from dataclasses import dataclass
from datetime import date

NUMBERS = ("precipitation", "temp_max", "temp_min", "wind")
COLUMNS = ("date", *NUMBERS, "weather")


@dataclass
class Day:
    """One line: mm, °C, °C, and the mean wind in m/s."""

    date: date
    precipitation: float
    temp_max: float
    temp_min: float
    wind: float
    weather: str


def read_days(text: str) -> list[Day]:
    """The days of a CSV, in the order of their dates."""
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
    if missing:
        raise ValueError(f"Line 1 has no column {missing[0]!r}. The columns are {', '.join(COLUMNS)}.")
    days = {}
    for row in rows:
        day = _read_day(row, rows.line_num)
        if days.setdefault(day.date, day) is not day:
            raise ValueError(f"Line {rows.line_num}, column 'date': {day.date} is there twice. Remove a line.")
    if not days:
        raise ValueError("Line 2 is missing: the CSV has a head and no day.")
    return [days[when] for when in sorted(days)]


def as_csv(days: list[Day]) -> str:
    """The days as the statistics functions are sent them."""
    lines = [",".join(str(getattr(day, column)) for column in COLUMNS) for day in days]
    return "\n".join([",".join(COLUMNS), *lines])


def _read_day(row: dict, line: int) -> Day:
    try:
        when = date.fromisoformat((row["date"] or "").replace("/", "-"))
    except ValueError:
        raise ValueError(f"Line {line}, column 'date': {row['date']!r} is no date. Write it as 2012/01/31.") from None
    return Day(when, *(_read_number(row, column, line) for column in NUMBERS), row["weather"] or "")


def _read_number(row: dict, column: str, line: int) -> float:
    cell = row[column] or ""
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"Line {line}, column {column!r}: {cell!r} is no number.")
    return number
