"""The settings of the log, and what is said when one is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from faasflow.config import LogFormat, LogLevel, Settings, inspect, log_settings
from faasflow.errors import ConfigError

ROOT = Path(__file__).parents[2]
SERVE = "import sys; from pathlib import Path; from faasflow.runtime import serve; serve(Path(sys.argv[1]), port=0)"


def test_text_from_info_on_is_the_default() -> None:
    assert log_settings({}) == (LogLevel.INFO, LogFormat.TEXT)


@pytest.mark.parametrize("text", ["warning", "Warning", " WARNING "])
def test_case_does_not_matter(text: str) -> None:
    settings = Settings.from_environment({"validate_request": "false", "log_level": text, "log_format": "Json"})

    assert (settings.log_level, settings.log_format) == (LogLevel.WARNING, LogFormat.JSON)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("log_level", "'debug', 'info', 'warning' or 'error'"),
        ("log_format", "'text' or 'json'"),
    ],
)
def test_a_value_that_is_not_understood_is_told_with_those_that_are(name: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        log_settings({name: "loud"})

    assert str(raised.value) == f"Setting {name!r} is 'loud', which is not understood. Give {said}."


def test_doctor_has_both() -> None:
    shown = {reading.name: reading.shown for reading in inspect({"log_format": "json"}).readings}

    assert (shown["log_level"], shown["log_format"]) == ("info", "json")


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"log_format": "xml"}, "Setting 'log_format' is 'xml'"),
        ({"log_format": "json"}, "Handler '"),
        ({"log_format": "json", "state_store": "tape:"}, "Setting 'state_store'"),
    ],
)
def test_what_keeps_a_flow_from_starting_is_told_in_plain_text(
    tmp_path: Path, environ: dict[str, str], said: str
) -> None:
    code = "def define(flow, context): flow.sync_node()" if "state_store" in environ else "x = 1"
    (tmp_path / "handler.py").write_text(code)
    base = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "validate_request": "false"}
    done = subprocess.run(
        [sys.executable, "-c", SERVE, str(tmp_path)],
        env=base | {"state_dir": str(tmp_path)} | environ,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"faasflow: error: {said}")
    assert done.stderr.count("\n") == 1
