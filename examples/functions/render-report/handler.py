"""Renders weather statistics (JSON) as one HTML page with its chart inside, to be opened anywhere.

The statistics are a title, years and findings, as the flow `weather-report` joins them. The same statistics always give
the same bytes. Language: python3-http.
"""

import io
import json
from datetime import date
from html import escape
from pathlib import Path
from string import Template

import matplotlib
from matplotlib.figure import Figure

matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "weather", "font.family": "sans-serif"})
PAGE = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
WARM, COLD, RAIN, DRY = "#c8553d", "#4a7fb0", "#3d6b9e", "#e9c46a"


def handle(event, context):
    """The page."""
    report = json.loads(event.body)
    page = PAGE.substitute(
        title=escape(report["title"]),
        findings="\n".join(finding(kind, texts) for kind, texts in report["findings"].items()),
        chart=chart(report["years"]),
        rows="\n".join(table_row(name, year) for name, year in report["years"].items()),
    )
    return page, 200, {"Content-Type": "text/html; charset=utf-8"}


def finding(kind, texts):
    """One kind of finding and its sentences."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<dt>{escape(kind)}</dt><dd><ul>{items}</ul></dd>"


def table_row(name, year):
    """One year of the table."""
    temperature, rain, wind = year["temperature"], year["precipitation"], year["wind"]
    spell = rain["dry_spell"]
    cells = [
        f"{temperature['mean_high']:.1f}",
        f"{temperature['mean_low']:.1f}",
        f"{temperature['hottest']['value']:.1f}",
        f"{temperature['coldest']['value']:.1f}",
        f"{temperature['hot_days']}",
        f"{temperature['frost_days']}",
        f"{rain['total']:.0f}",
        f"{rain['rain_days']}",
        f"{spell['days']}" if spell else "none",
        f"{wind['mean']:.1f}",
    ]
    return f"<tr><th>{escape(name)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def chart(years):
    """Temperature and precipitation by month over all years, as the text of an SVG element."""
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    draw_temperature(upper, years)
    draw_precipitation(lower, years)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.01)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize="small")
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def draw_temperature(axes, years):
    """The mean highs and lows of the months as a band, and the hottest day of each year."""
    highs, lows = months(years, "temperature", "monthly_high"), months(years, "temperature", "monthly_low")
    axes.fill_between(list(highs), list(lows.values()), list(highs.values()), color=WARM, alpha=0.15, linewidth=0)
    axes.plot(list(highs), list(highs.values()), color=WARM, label="mean high")
    axes.plot(list(lows), list(lows.values()), color=COLD, label="mean low")
    hottest = [year["temperature"]["hottest"] for year in years.values()]
    days, values = [date.fromisoformat(day["date"]) for day in hottest], [day["value"] for day in hottest]
    axes.plot(days, values, "o", color=WARM, markersize=4, label="hottest day")
    for day, value in zip(days, values, strict=True):
        axes.annotate(f"{value:.1f}", (day, value), (4, 3), textcoords="offset points", fontsize="small", color=WARM)
    axes.set_ylabel("°C")


def draw_precipitation(axes, years):
    """The totals of the months as bars, and the longest dry spell of each year behind them."""
    totals = months(years, "precipitation", "monthly")
    axes.bar(list(totals), list(totals.values()), width=24, color=RAIN, label="precipitation")
    spells = [year["precipitation"]["dry_spell"] for year in years.values()]
    for number, spell in enumerate(filter(None, spells)):
        start, end = date.fromisoformat(spell["start"]), date.fromisoformat(spell["end"])
        label = "_" if number else "longest dry spell of the year"
        axes.axvspan(start, end, color=DRY, alpha=0.6, linewidth=0, zorder=0, label=label)
    axes.set_ylabel("mm a month")


def months(years, part, name):
    """A monthly series over all years, by the middle of the month."""
    series = {month: value for year in years.values() for month, value in year[part][name].items()}
    return {date.fromisoformat(f"{month}-15"): value for month, value in sorted(series.items())}
