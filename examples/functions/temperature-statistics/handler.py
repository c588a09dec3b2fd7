"""Temperature statistics of daily weather: takes CSV (date, temp_max, temp_min; °C), answers JSON.

Language: python3-http.
"""

import csv
import io
from collections import defaultdict
from statistics import mean

HOT = 30.0


def handle(event, context):
    """Means, extremes, the number of hot days and of days with frost, and the mean high and low of each month."""
    days = list(csv.DictReader(io.StringIO(event.body.decode())))
    highs = [(float(day["temp_max"]), day["date"]) for day in days]
    lows = [(float(day["temp_min"]), day["date"]) for day in days]
    answer = {
        "days": len(days),
        "mean_high": average(highs),
        "mean_low": average(lows),
        "hottest": extreme(max(highs, key=value)),
        "coldest": extreme(min(lows, key=value)),
        "hot_days": sum(high >= HOT for high, _ in highs),
        "frost_days": sum(low < 0 for low, _ in lows),
        "monthly_high": by_month(highs),
        "monthly_low": by_month(lows),
    }
    return {"statusCode": 200, "body": answer}


def value(measured):
    """The number of a (number, date), so that of equal extremes the first day counts."""
    return measured[0]


def average(measured):
    """The mean, to two decimals."""
    return round(mean(number for number, _ in measured), 2)


def extreme(measured):
    """A value and its day."""
    return {"value": measured[0], "date": measured[1]}


def by_month(measured):
    """The mean of each month, by `2012-01`."""
    months = defaultdict(list)
    for number, date in measured:
        months[date[:7]].append((number, date))
    return {month: average(days) for month, days in months.items()}
