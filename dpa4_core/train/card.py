"""The identity card of a model to be: what follows from its base, its data and what is done to it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from dpa4_core.digests import digest
from dpa4_core.model.info import ModelInfo
from dpa4_core.model.offsets import OffsetResult
from dpa4_core.train.config import TrainConfig
from dpa4_core.train.dataset import Dataset

_LISTED = 8


def card(
    config: TrainConfig, data: Dataset, base: ModelInfo | None, species: tuple[str, ...], fit: OffsetResult | None
) -> ModelInfo:
    """Identity card of the model of a run.

    Of a base the new model keeps what the data cannot have changed. Once its offsets are shifted, neither its level of
    theory nor its corrections are those of the base: the configuration names them, or they are unknown and none.

    Args:
        config: of the run.
        data: its frames.
        base: card of the model that it starts from, its new elements left out; None for a new network.
        species: elements of the network, in its order.
        fit: of the offsets to the energies of the data; None without one.
    """
    counts = data.store.composition(data.store.elements)
    numbers = np.array(data.store.elements)
    own, seen = (
        numbers[counts[frames].sum(axis=0) > 0].tolist()
        for frames in (data.train, np.concatenate([data.train, data.replay]))
    )
    info = base or ModelInfo()
    elements = tuple(sorted({*info.elements, *seen}))
    known = {name: getattr(config, name) for name in ("level_of_theory", "corrections", "licence")}
    given: dict[str, Any] = {name: value for name, value in known.items() if value not in ("", "unknown")}
    facts: dict[str, Any] = {"data": _sources(data), "elements": [chemical_symbols[z] for z in own]}
    here = ", ".join(facts["elements"][:_LISTED]) + (f" and {len(own) - _LISTED} more" if len(own) > _LISTED else "")
    about = f"{len(data.train)} frames of {here} ({', '.join(facts['data'])})"
    if base is not None:
        facts |= {
            "base": base.name,
            "base_sha256": base.sha256,
            "base_level_of_theory": base.level_of_theory,
            "fine_tuned_on": facts["elements"],
            "frozen": list(config.finetune.freeze),
            "lora_rank": config.finetune.lora_rank,
            "offsets": config.finetune.offsets,
        }
        about += f"; from {base.name}: {base.trained_for}"
    zeros, undecided = dict(info.zeros), set(info.undecided)
    if fit is not None:
        fitted = {symbol for symbol, there in zip(species, fit.seen.tolist(), strict=True) if there}
        undecided -= fitted
        undecided |= {symbol for symbol, known in zip(species, fit.decided.tolist(), strict=True) if not known} & fitted
        if base is not None:
            zeros |= dict.fromkeys(sorted(fitted), digest(facts["data"])[:12])
            given = {"level_of_theory": "unknown", "corrections": "none"} | given
    return dataclasses.replace(
        info,
        name=config.name,
        sha256="",
        source="",
        elements=elements,
        trained_for=about,
        training=facts,
        zeros=zeros,
        undecided=tuple(sorted(undecided)),
        **given,
    )


def _sources(data: Dataset) -> dict[str, Any]:
    """What the run is trained on, by name: checksums and frames."""
    checksums: dict[str, str] = data.store.about["checksums"]
    rows = data.store.arrays["source"][np.concatenate([data.train, data.replay])]
    names = data.store.sources
    return {
        names[i]: {"sha256": checksums[names[i]], "n_frames": int(n)}
        for i, n in zip(*np.unique(rows, return_counts=True), strict=True)
    }
