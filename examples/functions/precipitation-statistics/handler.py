"""Precipitation statistics of daily weather: takes CSV (date as 2012-01-31, precipitation in mm) in the order of its
dates, answers JSON.

Language: python3-http.
"""

import csv
import io
from collections import defaultdict
from datetime import date, timedelta


def handle(event, context):
    """The total, the days with rain, the wettest day, the longest time without any, and the total of each month."""
    rows = csv.DictReader(io.StringIO(event.body.decode()))
    days = [(date.fromisoformat(row["date"]), float(row["precipitation"])) for row in rows]
    wettest, most = max(days, key=lambda day: day[1])
    answer = {
        "total": round(sum(amount for _, amount in days), 1),
        "rain_days": sum(amount > 0 for _, amount in days),
        "wettest": {"value": most, "date": wettest.isoformat()},
        "dry_spell": longest_dry_spell(days),
        "monthly": by_month(days),
    }
    return {"statusCode": 200, "body": answer}


def longest_dry_spell(days):
    """`{"days", "start", "end"}` of the longest run of days without precipitation, the first of several; a missing day
    ends a run. `None` if it rained every day."""
    longest, run = [], []
    for day, amount in days:
        if amount > 0:
            run = []
        elif run and day - run[-1] == timedelta(days=1):
            run.append(day)
        else:
            run = [day]
        longest = run[:] if len(run) > len(longest) else longest
    if not longest:
        return None
    return {"days": len(longest), "start": longest[0].isoformat(), "end": longest[-1].isoformat()}


def by_month(days):
    """The total of each month, by `2012-01`."""
    months = defaultdict(float)
    for day, amount in days:
        months[f"{day:%Y-%m}"] += amount
    return {month: round(total, 1) for month, total in months.items()}
