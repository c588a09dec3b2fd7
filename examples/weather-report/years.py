"""What is known about a year, what makes one remarkable, and how that reads in a terminal."""

from dataclasses import dataclass
from datetime import date
from statistics import mean

HOT_DAYS = 20  # days of 30 °C or more
DRY_DAYS = 30  # days in a row without measurable precipitation
WET_SHARE = 1.1  # of the mean of all years
STRONG_BREEZE = 10.8  # m/s, where Beaufort 6 begins


@dataclass
class Extreme:
    value: float
    date: date


@dataclass
class Temperature:
    """The answer of `temperature-statistics`."""

    days: int
    mean_high: float
    mean_low: float
    hottest: Extreme
    coldest: Extreme
    hot_days: int
    frost_days: int
    monthly_high: dict[str, float]
    monthly_low: dict[str, float]


@dataclass
class DrySpell:
    days: int
    start: date
    end: date


@dataclass
class Precipitation:
    """The answer of `precipitation-statistics`."""

    total: float
    rain_days: int
    wettest: Extreme
    dry_spell: DrySpell | None
    monthly: dict[str, float]


@dataclass
class Wind:
    """The answer of `wind-statistics`."""

    mean: float
    windiest: Extreme
    fresh_days: int


@dataclass
class Year:
    temperature: Temperature
    precipitation: Precipitation
    wind: Wind


def heat(years: dict[str, Year]) -> list[str]:
    """Years with many hot days."""
    found = [(name, year.temperature) for name, year in years.items() if year.temperature.hot_days >= HOT_DAYS]
    return [f"{name}: {had.hot_days} days of 30 °C or more, up to {_extreme(had.hottest, '°C')}" for name, had in found]


def drought(years: dict[str, Year]) -> list[str]:
    """Years with a long time without rain."""
    spells = [(name, year.precipitation.dry_spell) for name, year in years.items()]
    return [
        f"{name}: {spell.days} days without rain, {_day(spell.start)} to {_day(spell.end)}"
        for name, spell in spells
        if spell and spell.days >= DRY_DAYS
    ]


def wet(years: dict[str, Year]) -> list[str]:
    """Years with much more rain than the others."""
    usual = mean(year.precipitation.total for year in years.values())
    found = [(name, year.precipitation) for name, year in years.items() if year.precipitation.total > WET_SHARE * usual]
    return [
        f"{name}: {had.total:.0f} mm, {had.total / usual - 1:.0%} above the mean, {_extreme(had.wettest, 'mm')} alone"
        for name, had in found
    ]


def storm(years: dict[str, Year]) -> list[str]:
    """Years with a day of strong wind."""
    found = [(name, year.wind) for name, year in years.items() if year.wind.windiest.value >= STRONG_BREEZE]
    return [f"{name}: a mean wind of {_extreme(had.windiest, 'm/s')}" for name, had in found]


REMARKABLE = {"heat": heat, "drought": drought, "wet": wet, "storm": storm}


def span(years: dict[str, Year]) -> str:
    """The first and the last year."""
    return min(years) if len(years) == 1 else f"{min(years)} to {max(years)}"


def in_words(title: str, years: dict[str, Year], findings: dict[str, list[str]]) -> str:
    """A table of the years and the findings, as text for a terminal."""
    head = "year  mean high  mean low  hottest                30 °C  frost     rain  longest dry spell       mean wind"
    rows = [_row(name, year) for name, year in years.items()]
    said = [f"{kind:<8} {sentence}" for kind, sentences in findings.items() for sentence in sentences]
    days = sum(year.temperature.days for year in years.values())
    return "\n".join([f"{title}: {days} day{'s' * (days != 1)}", "", head, *rows, "", *said])


def _row(name: str, year: Year) -> str:
    warm, rain, wind = year.temperature, year.precipitation, year.wind
    spell = f"{rain.dry_spell.days} days from {_day(rain.dry_spell.start)}" if rain.dry_spell else "none"
    return (
        f"{name:<4} {warm.mean_high:7.1f} °C {warm.mean_low:6.1f} °C  {_extreme(warm.hottest, '°C'):<22} "
        f"{warm.hot_days:>5} {warm.frost_days:>6} {rain.total:>5.0f} mm  {spell:<22} {wind.mean:>6.1f} m/s"
    )


def _extreme(extreme: Extreme, unit: str) -> str:
    return f"{extreme.value:.1f} {unit} on {_day(extreme.date)}"


def _day(when: date) -> str:
    return f"{when.day} {when:%B}"
