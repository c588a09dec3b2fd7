"""`python -m faasflow.cli`: the same as `faasflow`."""

from __future__ import annotations

from faasflow.cli import main

main()
