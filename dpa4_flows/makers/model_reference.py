"""Makers whose model is the output of an earlier job.

jobflow resolves references in the arguments of a job, not in the fields of its Maker. `takes_model` hands a reference
in the field on as an argument, so that this works with every engine and inside every atomate2 flow:

    train = TrainMaker(...).make("frames.extxyz")
    relax = DPA4RelaxMaker(model=train.output.model).make(structure)
    responses = run_local(Flow([train, relax]), "run")
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

from jobflow import OutputReference

from dpa4_flows.model_ref import ModelRef


def takes_model(decorate: Callable[..., Any], field: str = "model") -> Callable[[Callable[..., Any]], Any]:
    """A decorator for ``make`` in place of ``decorate``; the job that it builds also takes the keyword ``model``.

    Args:
        decorate: ``job``, ``job(...)`` or a decorator made of it.
        field: the field of the Maker that may hold a reference.
    """

    def decorator(method: Callable[..., Any]) -> Any:
        @functools.wraps(method)
        def run(self: Any, *args: Any, model: ModelRef | dict[str, Any] | None = None, **kwargs: Any) -> Any:
            if model is not None:
                self = copy.copy(self)
                setattr(self, field, ModelRef.from_dict(model) if isinstance(model, dict) else model)
            return method(self, *args, **kwargs)

        make = decorate(run)

        @functools.wraps(make)
        def build(self: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(getattr(self, field), OutputReference):
                kwargs.setdefault("model", getattr(self, field))
            return make(self, *args, **kwargs)

        return build

    return decorator
