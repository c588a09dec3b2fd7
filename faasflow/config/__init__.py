"""The settings of a flow function: read once, from the environment and the secret files, and checked in one place.

Names and meanings are the original's where it has them. Nothing else in the package reads the environment for a flow.
"""

from __future__ import annotations

from faasflow.config.gateway import GATEWAY_DISPATCHER, gateway_access
from faasflow.config.logs import LogFormat, LogLevel, log_settings
from faasflow.config.reader import Reading, Source
from faasflow.config.settings import HMAC_SECRET, Inspection, Settings, inspect, names_flow
from faasflow.config.text import masked, parse_age, parse_duration, parse_time, redirection, without_tokens
from faasflow.config.tracing import TraceSettings

__all__ = [
    "GATEWAY_DISPATCHER",
    "HMAC_SECRET",
    "Inspection",
    "LogFormat",
    "LogLevel",
    "Reading",
    "Settings",
    "Source",
    "TraceSettings",
    "gateway_access",
    "inspect",
    "log_settings",
    "masked",
    "names_flow",
    "parse_age",
    "parse_duration",
    "parse_time",
    "redirection",
    "without_tokens",
]
