"""What a reader must know before quoting a number: sentences chosen by what the run really used."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

GENERAL = (
    "All energies are at 0 K without zero-point motion and entropy.",
    "A hull knows only the phases in it: a missing phase can only make a candidate look more stable.",
)

_CORRECTIONS = {
    "none": (
        "No energy corrections were applied: formation energies of oxides and fluorides of V, Cr, Mn, "
        "Fe, Co, Ni, Mo and W by a PBE/PBE+U model are off by about 1.2 eV/atom, and their distances to "
        "the hull are not usable."
    ),
    "OMat24": (
        "OMat24 corrections: with DPA4-Neo, formation energies agree with experiment to 0.07 eV/atom "
        "(mean of 41 compounds); cobalt oxides come out too stable by about 0.2 eV/atom, so hull "
        "distances of cobalt compounds carry that error where it does not cancel."
    ),
    "MP2020": (
        "MP2020 corrections: with DPA4-Neo, formation energies agree with experiment to 0.06 eV/atom "
        "(mean of 41 compounds), but the scheme was fitted to other pseudopotentials; the authors of "
        "OMat24 advise against it for models trained on OMat24."
    ),
}


def model_caveats(model: Mapping[str, Any], corrections: Collection[str]) -> list[str]:
    """Sentences for the model card, in order of importance.

    Args:
        model: the run's record of the model (fields of ``ModelInfo``).
        corrections: correction schemes found in the energy frames of the run.
    """
    theory = str(model.get("level_of_theory", ""))
    sentences = [_CORRECTIONS[name] for name in corrections if name in _CORRECTIONS and "+U" in theory]
    if "PBE" in theory:
        sentences.append(
            "The model has no dispersion: layered hosts come apart along the stacking axis when the ion "
            "between the layers is removed. Their voltage is barely affected, their volume change is "
            "meaningless and marked as unreliable."
        )
    if "+U" in theory:
        sentences.append(
            "Energies are PBE+U where O or F meets V, Cr, Mn, Fe, Co, Ni, Mo or W, and PBE elsewhere. "
            "They are never compared with Materials Project energies: every competing phase was computed"
            " with the same model."
        )
        sentences.append(
            "The model has no spin and no charge: magnetic order, spin-state transitions and polarons are "
            "invisible to it."
        )
    return [*sentences, *GENERAL]
