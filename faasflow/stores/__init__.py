"""The store adapters, and how a URL names one. An adapter is imported when it is opened."""

from __future__ import annotations
