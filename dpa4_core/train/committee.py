"""From the models of finished runs to one committee, and what its deviations are worth on frames that none has seen."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpa4_core.committee import Committee
from dpa4_core.errors import DPA4Error
from dpa4_core.evaluate import evaluate
from dpa4_core.files import write_json
from dpa4_core.loaded import load
from dpa4_core.model.committee import write_committee
from dpa4_core.train.begin import MODEL
from dpa4_core.train.config import TrainConfig
from dpa4_core.train.outcome import validation_frames
from dpa4_core.uncertainty import Stretch

METRICS = "metrics.json"


def join_members(
    config: TrainConfig,
    runs: Sequence[Path],
    *,
    device: str = "cpu",
    notify: Callable[[str], None] = lambda text: None,
) -> dict[str, float]:
    """Write the committee of some runs into ``config.output``: ``model.dpa4``, and ``metrics.json`` with its errors on
    the validation frames, those of each member, and how deviations compare with errors. What is there is left.

    Args:
        config: of the whole committee.
        runs: folders of the members, whose runs are finished; they have the same validation frames.
        device: where to compute.
        notify: called with what is being done.

    Returns:
        Its errors on the validation frames, by name; nothing without such frames.

    Raises:
        DPA4Error: a run without a model, or models that are no committee.
    """
    target, models = Path(config.output) / MODEL, [run / MODEL for run in runs]
    if lacking := [str(model) for model in models if not model.is_file()]:
        raise DPA4Error(f"{lacking[0]} is missing: train this member first")
    metrics_file = target.with_name(METRICS)
    newest = max(model.stat().st_mtime for model in models)
    if target.is_file() and metrics_file.is_file() and min(map(_written, (target, metrics_file))) >= newest:
        return _errors(json.loads(metrics_file.read_text())["validation"] or {})
    members = [load(model, device=device, dtype=config.run.dtype) for model in models]
    frames = validation_frames(runs[0])
    together, alone = None, []
    if frames:
        notify(f"errors of {len(members)} members and of their mean on {len(frames)} validation frames")
        together = evaluate(frames, Committee(members))
        alone = [evaluate(frames, member) for member in members]
    facts: dict[str, Any] = {"config": config.to_dict()}
    if together is not None:
        facts |= {"validation": _errors(vars(together)), "uncertainty": together.uncertainty}
        facts["stretch"] = dataclasses.asdict(Stretch.of(together.uncertainty))
    base = config.base if config.finetune.lora_rank else None
    write_committee(models, target, name=config.name, base=base, facts=facts)
    plain = None if together is None else dataclasses.asdict(together)
    write_json(
        metrics_file,
        {"model": MODEL, "validation": plain, "members": [_errors(vars(metrics)) for metrics in alone], "warnings": []},
    )
    return _errors(plain or {})


def _written(path: Path) -> float:
    return path.stat().st_mtime


def _errors(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The errors over all frames that are known, by name."""
    values = {name: value for name, value in metrics.items() if name.endswith(("_mae", "_rmse"))}
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
