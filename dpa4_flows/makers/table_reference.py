"""Makers whose jobs work on a results table: it is made where the jobs are made, and jobs only open it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dpa4_flows.store.table import table_for_jobs


def takes_table(make: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator for ``make`` with an argument ``table``: the table of a path is made at once, and the job gets the
    `TableRef`, so that a worker that does not see the folder fails instead of beginning an empty table.
    """
    place = list(inspect.signature(make).parameters).index("table")

    @functools.wraps(make)
    def build(*args: Any, **kwargs: Any) -> Any:
        relax_maker = getattr(args[0], "relax_maker", args[0])
        shared = getattr(relax_maker, "shared_table", False)
        if len(args) > place and isinstance(args[place], str | Path):
            args = (*args[:place], table_for_jobs(args[place], shared=shared), *args[place + 1 :])
        elif isinstance(kwargs.get("table"), str | Path):
            kwargs["table"] = table_for_jobs(kwargs["table"], shared=shared)
        return make(*args, **kwargs)

    return build
