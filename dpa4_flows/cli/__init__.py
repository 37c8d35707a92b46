"""The `dpa4` command line; one module per family of commands, imported when used."""

from __future__ import annotations

from dpa4_flows.cli.app import app, main

__all__ = ["app", "main"]
