"""Where a result came from: model, settings and code, as every document carries it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from dpa4_core.model.info import ModelInfo
from dpa4_core.version import code_version
from dpa4_flows.documents.schemas import EnergyFrame, Provenance
from dpa4_flows.model_ref import ModelRef

NO_MODEL = "no model"
"""In place of its name, beside an empty checksum, where a document rests on none."""


def provenance(
    model: ModelRef | ModelInfo,
    settings: dict[str, Any],
    *,
    wall_time_s: float | None = None,
    with_pymatgen: bool = False,
) -> Provenance:
    """Provenance of a result.

    Args:
        model: the model; a `ModelRef` is loaded if it is not yet.
        settings: every setting that changes the numbers, plain JSON types.
        wall_time_s: wall time, s.
        with_pymatgen: record pymatgen's version, where its corrections decide numbers.
    """
    info = model.info() if isinstance(model, ModelRef) else model
    return Provenance(
        model_name=info.name,
        model_sha256=info.sha256,
        level_of_theory=info.level_of_theory,
        dispersion=info.dispersion,
        zeros=info.zeros,
        undecided=list(info.undecided),
        settings=settings,
        code_version=code_version(),
        pymatgen_version=version("pymatgen") if with_pymatgen else None,
        wall_time_s=wall_time_s,
    )


def origin_row(info: ModelInfo) -> dict[str, str]:
    """Model and code behind numbers of this process, for a row of a table or the head of a JSON file."""
    return {
        "model": info.name,
        "model_sha256": info.sha256,
        "level_of_theory": info.level_of_theory,
        "code_version": code_version(),
    }


def codes_of(documents: Iterable[Any]) -> tuple[str, ...]:
    """Versions of the code that made documents."""
    origins = (getattr(document, "provenance", None) for document in documents)
    return tuple(sorted({origin.code_version for origin in origins if origin is not None}))


def energy_frame(model: ModelRef | ModelInfo, correction: str = "none") -> EnergyFrame:
    """The frame of energies that ``model`` computed and to which ``correction`` was applied."""
    info = model.info() if isinstance(model, ModelRef) else model
    return EnergyFrame(
        dispersion=info.dispersion,
        model_sha256=info.sha256,
        level_of_theory=info.level_of_theory,
        correction=correction,
    )
