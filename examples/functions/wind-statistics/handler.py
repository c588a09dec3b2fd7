"""Wind statistics of daily weather: takes CSV (date, wind as the day's mean in m/s), answers JSON.

Language: python3-flask.
"""

import csv
import io
import json
from statistics import mean

FRESH = 8.0  # where Beaufort 5, a fresh breeze, begins


def handle(req):
    """The mean, the windiest day, and the number of days whose mean was a fresh breeze or more."""
    days = list(csv.DictReader(io.StringIO(req)))
    speeds = [float(day["wind"]) for day in days]
    windiest = max(days, key=lambda day: float(day["wind"]))
    return json.dumps(
        {
            "mean": round(mean(speeds), 2),
            "windiest": {"value": float(windiest["wind"]), "date": windiest["date"]},
            "fresh_days": sum(speed >= FRESH for speed in speeds),
        }
    )
