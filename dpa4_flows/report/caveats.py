"""What a reader must know before quoting a number: sentences chosen by what the run really used."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from dpa4_flows.analysis.frames import applies_u, is_known_pbe
from dpa4_flows.analysis.hull_warnings import without_dispersion
from dpa4_flows.analysis.levels import COBALT, DPA4_NEO_SHA256, SCHEME_ERRORS
from dpa4_flows.properties.table import Results, listed

if TYPE_CHECKING:  # properties need no campaigns
    from dpa4_flows.campaigns.snapshot import Snapshot

GENERAL = (
    "All energies are at 0 K without zero-point motion and entropy.",
    "A hull knows only the phases in it: a missing phase can only make a candidate look more stable.",
)

_NO_CORRECTIONS = (
    "No energy corrections were applied: formation energies of oxides and fluorides of V, Cr, Mn, Fe, Co, Ni, Mo and W "
    f"by a PBE/PBE+U model are off by about {SCHEME_ERRORS['none'].with_u:.1f} eV/atom, and their distances to the "
    "hull are not usable."
)

_ADVICE = {
    "OMat24": COBALT[0].upper() + COBALT[1:] + ".",
    "MP2020": "The scheme was fitted to other pseudopotentials than those of the model; docs/levels-of-theory.md says "
    "when to prefer it.",
}


def model_caveats(model: Mapping[str, Any], corrections: Collection[str]) -> list[str]:
    """Sentences for the model card, in order of importance.

    Args:
        model: the run's record of the model (fields of ``ModelInfo``).
        corrections: correction schemes found in the energy frames of the run.
    """
    theory = str(model.get("level_of_theory", ""))
    sentences = [_corrections_caveat(name, model) for name in sorted(corrections)] if applies_u(theory) else []
    return [*sentences, *theory_caveats(theory, str(model.get("dispersion", ""))), *GENERAL]


def campaign_caveats(snapshot: Snapshot) -> list[str]:
    """What to know of all numbers of a campaign: of its model, its stages, and the properties that they compute."""
    stages = snapshot.funnel.stages
    found = [sentence for stage in stages for sentence in stage.caveats]
    found += [sentence for stage in stages if stage.shown is not None for sentence in stage.shown.caveats]
    return list(dict.fromkeys([*model_caveats(snapshot.model, snapshot.corrections), *found]))


def theory_caveats(level_of_theory: str, dispersion: str) -> list[str]:
    """What any number of this level of theory lacks; ``dispersion`` names that in the energies, "" is none."""
    sentences = []
    if dispersion:
        sentences.append(f"Dispersion was added to the model ({dispersion}): numbers without it do not compare.")
    elif is_known_pbe(level_of_theory):
        sentences.append("The model has no dispersion: layers and molecules that it alone holds are bound too weakly.")
    if applies_u(level_of_theory):
        sentences.append(
            "Energies are PBE+U where O or F meets V, Cr, Mn, Fe, Co, Ni, Mo or W, and PBE elsewhere. "
            "They are never compared with Materials Project energies: every competing phase was computed"
            " with the same model."
        )
        sentences.append(
            "The model has no spin and no charge: magnetic order, spin-state transitions and polarons are "
            "invisible to it."
        )
    return sentences


def property_caveats(results: Results[Any]) -> list[str]:
    """What to know of numbers of these properties, and of all that was computed at these levels of theory."""
    properties = [whole for one in results.question.properties for whole in (one, *one.parts)]
    found = [sentence for one in properties for sentence in one.caveats]
    documents = [document for one in results.answers for document in one.documents.values()]
    origins = filter(None, (getattr(document, "provenance", None) for document in documents))
    for level in dict.fromkeys((origin.level_of_theory, origin.dispersion) for origin in origins):
        found += theory_caveats(*level)
    return [*dict.fromkeys(found), *listed(results.remarks)]


def _corrections_caveat(scheme: str, model: Mapping[str, Any]) -> str:
    """What is known about energies of this PBE/PBE+U model with these corrections."""
    if scheme == "none":
        return _NO_CORRECTIONS
    if model.get("sha256") == DPA4_NEO_SHA256 and scheme in _ADVICE:
        return (
            f"{scheme} corrections: with DPA4-Neo, formation energies agree with experiment to "
            f"{SCHEME_ERRORS[scheme].mean:.2f} eV/atom (mean of 41 compounds). {_ADVICE[scheme]}"
        )
    fitting = str(model.get("corrections") or "")
    if model.get("dispersion"):
        return f"{scheme} corrections: {without_dispersion(scheme)}."
    unmeasured = "how well formation energies agree with experiment was not measured for this model."
    if not fitting or fitting == "none":
        return f"{scheme} corrections: whether they fit this model's level of theory is not known, and {unmeasured}"
    if fitting != scheme:
        return (
            f"{scheme} corrections were applied, but {fitting} corrections fit this model's level of theory: formation "
            f"energies and distances to the hull carry an error of unknown size; {unmeasured}"
        )
    return f"{scheme} corrections fit this model's level of theory; {unmeasured}"
