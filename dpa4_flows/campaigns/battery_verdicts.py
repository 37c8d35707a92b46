"""Verdicts of the battery funnel on one candidate: criteria of the campaign file applied to results of the analysis.

Pure functions without table or engine, so that `dpa4 screen --dry-run` and the jobs share them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

from pymatgen.core import Composition, Structure

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.analysis.completeness import Survey, hull_verdict, on_hull
from dpa4_flows.analysis.electrode import ElectrodeError, ElectrodeProperties, redox_bound, remove_ions
from dpa4_flows.analysis.hull import HullResult
from dpa4_flows.analysis.nearby import NEAR, nearest_compound
from dpa4_flows.analysis.sanity import check_candidate
from dpa4_flows.campaigns.battery_reasons import because
from dpa4_flows.campaigns.config import BatteryCampaign
from dpa4_flows.reasons import Reason, voided
from dpa4_flows.schemas import Candidate, ElectrodeDocument, Provenance, RelaxationDocument, StageResult

NOTICEABLY_BELOW = 0.02
"""eV/atom; a phase that lies further below all others may miss competitors; beyond `FAR_BELOW` it does."""

ELECTRODE_UNITS = {
    "average_voltage": "V",
    "capacity_grav": "mAh/g",
    "capacity_vol": "mAh/cm³",
    "energy_grav": "Wh/kg",
    "energy_vol": "Wh/L",
    "volume_change_percent": "%",
}


def judge_sanity(candidate: Candidate, campaign: BatteryCampaign, elements: Collection[int]) -> StageResult:
    """Whether a candidate can and should be computed: readable, known elements, no overlaps, ion and redox metal.

    Args:
        candidate: the candidate.
        campaign: the criteria.
        elements: atomic numbers that the model knows.
    """
    limits = campaign.sanity
    result = StageResult(
        candidate_id=candidate.candidate_id,
        stage="sanity",
        status="passed",
        thresholds={"n_atoms": limits.max_atoms, "min_distance_ratio": limits.min_distance_ratio},
    )
    if candidate.structure is None:
        return _rejected(result, because("not_sane", candidate.error or "the candidate has no structure"))
    structure = structure_of_fields(candidate.structure)
    result.values = {"n_atoms": len(structure)}
    ion = campaign.campaign.working_ion
    reasons = check_candidate(
        structure,
        supported_elements=elements,
        max_atoms=limits.max_atoms,
        min_distance_ratio=limits.min_distance_ratio,
        working_ion=ion,
    )
    if reasons:
        return _rejected(result, *(because("not_sane", sentence) for sentence in reasons))
    bound = redox_bound(structure.composition, ion)
    if limits.require_redox_metal and bound.reason:
        return _rejected(result, because("no_redox_metal", bound.reason))
    result.values["capacity_bound"] = bound.capacity_ions
    result.units = {"capacity_bound": "mAh/g"}
    allowed = bound.capacity_redox if bound.redox_elements else None  # without a metal the anions are oxidised
    flags = [because("input_doubtful", sentence) for sentence in candidate.warnings]
    if allowed is not None and allowed < bound.capacity_ions - 0.5:
        result.values["capacity_bound"] = allowed
        sentence = (
            f"the highest oxidation states of {', '.join(bound.redox_elements)} allow {allowed:.0f} "
            f"of the {bound.capacity_ions:.0f} mAh/g that removing all {ion} would give"
        )
        flags.append(because("oxidation_limit", sentence))
    return _flagged(result, flags)


def judge_duplicate(candidate_id: str, representative: str) -> StageResult:
    """Rejects a candidate that another one stands for."""
    result = StageResult(candidate_id=candidate_id, stage="duplicates", status="passed")
    if representative == candidate_id:
        return result
    result.values = {"duplicate_of": representative}
    return _rejected(result, because("duplicate", f"same structure as {representative}, which stands for both"))


def judge_relaxed_duplicate(
    candidate_id: str, representative: str, documents: Mapping[str, RelaxationDocument], window: float
) -> StageResult:
    """Rejects a candidate that relaxed to the structure of another one.

    Args:
        candidate_id: the candidate.
        representative: whom it relaxed to, itself if to nobody.
        documents: relaxations by id.
        window: eV/atom within which two relaxations are one.
    """
    document = documents[candidate_id]
    result = StageResult(
        candidate_id=candidate_id,
        stage="relaxed_duplicates",
        status="passed",
        calculation_keys=[document.key],
        provenance=document.provenance,
    )
    if representative == candidate_id:
        return result
    own, other = document.energy_per_atom, documents[representative].energy_per_atom
    assert own is not None and other is not None  # only converged relaxations are alike
    result.values = {"duplicate_of": representative, "energy_above_representative": own - other}
    result.units = {"energy_above_representative": "eV/atom"}
    result.thresholds = {"energy_above_representative": window}
    sentence = (
        f"relaxed to the same structure as {representative}, whose energy is lower by {own - other:.4f} eV/atom and "
        "which stands for both"
    )
    return _rejected(result, because("duplicate", sentence))


def products_text(formula: str, decomposition: Mapping[str, float]) -> str:
    """What a phase turns into, in words; fractions count atoms, not formula units."""
    if list(decomposition) == [formula]:
        return f"another structure of {formula}"
    return (
        " + ".join(f"{100 * fraction:.0f} % {product}" for product, fraction in decomposition.items()) + " (by atoms)"
    )


def judge_hull(
    candidate_id: str,
    position: HullResult,
    *,
    stage: str,
    limit: float,
    missing_phases: Sequence[str] = (),
    survey: Survey | None = None,
    warnings: Sequence[str] = (),
    reliable: bool = True,
) -> StageResult:
    """Verdict on the distance to the hull. One that is unknown, or a lower bound by far, does not rank.

    Args:
        candidate_id: the candidate.
        position: where its discharged or charged phase lies.
        stage: ``"hull"`` or ``"charged_hull"``; the second one adds ``_charged`` to the names of its values.
        limit: largest distance, eV/atom.
        missing_phases: sentences on known phases of the system that have no energy.
        survey: of the phases of the system.
        warnings: sentences about corrections.
        reliable: False for a charged host whose structure the model cannot describe; its distance is marked so.
    """
    suffix = "" if stage == "hull" else "_charged"
    name, below = f"energy_above_hull{suffix}", f"distance_to_competing{suffix}"
    result = StageResult(
        candidate_id=candidate_id,
        stage=stage,
        status="flagged" if warnings or missing_phases else "passed",
        reasons=[
            *(because("corrections_doubtful", sentence) for sentence in warnings),
            *(because("phases_missing", f"not on the hull: {sentence}") for sentence in missing_phases),
        ],
        thresholds={name: limit},
        units={name: "eV/atom", below: "eV/atom"},
    )
    distance = position.energy_above_hull
    if position.error is not None or distance is None:
        result.status = "error"
        sentence = position.error or f"{position.formula} has no place on the hull"
        result.reasons = [because("no_hull_distance", sentence)]
        return result
    products = products_text(position.formula, position.decomposition)
    completeness = position.completeness(missing_phases, survey)
    verdict = hull_verdict(distance, position.distance_to_competing, completeness)
    result.values = {
        name: distance,
        below: position.distance_to_competing,
        "decomposition": products if verdict.code == "above_hull" else verdict.sentence,
        "n_competing": position.n_competing,
    }
    if stage == "hull":
        result.values["formation_energy_per_atom"] = position.formation_energy_per_atom
        result.units["formation_energy_per_atom"] = "eV/atom"
    what = "" if stage == "hull" else "the charged host "
    if not on_hull(distance, limit):
        sentence = (
            f"{what}{position.formula} lies {distance:.3f} eV/atom above the hull, more than {limit:g}; "
            f"it would turn into {products}"
        )
        return _rejected(result, because("above_limit", sentence))
    if position.missing_references:
        result.status = "flagged"
        missing = ", ".join(position.missing_references)
        code = "element_missing" if stage == "hull" else "charged_hull_unknown"
        result.reasons.append(because(code, f"no reference for {missing}: the distance to the hull is a lower bound"))
    margin = position.distance_to_competing
    if not verdict.documented:
        result.status = "flagged"
        sentence = (
            f"whether {what}{position.formula} is stable is {verdict.sentence}"
            if verdict.code == "unknown"
            else f"{what}{position.formula}: {verdict.sentence}; its distance to the hull does not rank"
        )
        result.reasons.append(because(verdict.reason if stage == "hull" else "charged_hull_unknown", sentence))
    elif margin is not None and margin < -NOTICEABLY_BELOW:
        result.status = "flagged"
        sentence = (
            f"{what}{position.formula} lies {-margin:.3f} eV/atom below all competing phases: its stability is an "
            "upper bound, since a phase that is missing may lie between"
        )
        result.reasons.append(because(f"below_competitors{suffix}", sentence))
    if stage == "charged_hull" and (far := _far_from_phases(position)):
        result.status = "flagged"
        result.reasons.append(because("charged_far_from_phases", f"{what}{position.formula}: {far}"))
    if not reliable:
        result.status = "flagged"
        sentence = (
            f"the distance of {what}{position.formula} to the hull is not reliable, as its volume is not; "
            "it does not compete with other hosts"
        )
        result.reasons.append(because("charged_hull_unknown", sentence))
    return result


def _far_from_phases(position: HullResult) -> str:
    """A sentence if no compound that competes is near the composition; empty if one is, or if none competes at all."""
    compounds = [*position.competing.known, *position.competing.prototypes]
    nearest = nearest_compound(Composition(position.formula), compounds)
    if nearest is None or nearest.near:
        return ""
    return (
        f"no compound near its composition competes; the nearest, {nearest.formula}, differs in "
        f"{100 * nearest.distance:.0f} % of the atoms (near: {100 * NEAR:.0f} %)"
    )


def judge_delithiation(candidate_id: str, discharged: Structure, ion: str) -> StageResult:
    """The host without the working ion, kept as the document of the verdict."""
    result = StageResult(candidate_id=candidate_id, stage="delithiate", status="passed")
    try:
        charged = remove_ions(discharged, ion)
    except ElectrodeError as error:
        return _rejected(result, because("nothing_left", str(error)))
    n_removed = len(discharged) - len(charged)
    result.values = {"charged_formula": charged.composition.reduced_formula, "n_ions_removed": n_removed}
    result.document = {"structure": charged.as_dict()}
    return result


def judge_electrode(
    candidate_id: str, properties: ElectrodeProperties, campaign: BatteryCampaign, provenance: Provenance
) -> StageResult:
    """Verdict on voltage and capacity; a volume change is flagged, since it may be an artefact of the model."""
    limits = campaign.electrode
    flags = [because(code, sentence) for code, sentence in properties.warnings.items()]
    fields = dataclasses.asdict(properties) | {"warnings": flags}
    result = StageResult(
        candidate_id=candidate_id,
        stage="electrode",
        status="passed",
        values={name: fields[name] for name in ELECTRODE_UNITS},
        units=dict(ELECTRODE_UNITS),
        thresholds={
            "min_voltage": limits.min_voltage,
            "max_voltage": limits.max_voltage,
            "min_capacity_grav": limits.min_capacity_grav,
            "max_volume_change_percent": limits.max_volume_change_percent,
        },
        document=ElectrodeDocument(**fields, provenance=provenance).model_dump(mode="json"),
        provenance=provenance,
    )
    voltage, capacity = properties.average_voltage, properties.capacity_grav
    failures = []
    if voltage < limits.min_voltage:
        sentence = f"average voltage {voltage:.2f} V is below {limits.min_voltage:g} V"
        failures.append(because("voltage_too_low", sentence))
    if voltage > limits.max_voltage:
        sentence = f"average voltage {voltage:.2f} V is above {limits.max_voltage:g} V, where electrolytes decompose"
        failures.append(because("voltage_too_high", sentence))
    if capacity < limits.min_capacity_grav:
        sentence = f"capacity {capacity:.0f} mAh/g is below {limits.min_capacity_grav:g} mAh/g"
        failures.append(because("capacity_too_low", sentence))
    if failures:
        return _rejected(result, *failures, *flags)
    change = properties.volume_change_percent
    if abs(change) > limits.max_volume_change_percent and "volume_change_percent" not in voided(flags):
        sentence = (
            f"the volume changes by {change:+.1f} % on charging, more than {limits.max_volume_change_percent:g} %"
        )
        flags.append(because("large_volume_change", sentence))
    return _flagged(result, flags)


def _rejected(result: StageResult, *reasons: Reason) -> StageResult:
    return result.model_copy(update={"status": "failed", "reasons": list(reasons)})


def _flagged(result: StageResult, flags: Sequence[Reason]) -> StageResult:
    """The result with flags, if there are any."""
    return result.model_copy(update={"status": "flagged", "reasons": list(flags)}) if flags else result
