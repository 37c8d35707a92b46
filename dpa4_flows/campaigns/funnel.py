"""What every screening funnel is made of: verdicts of a stage in the results table, and those on relaxations.

Jobs exchange the place of the results table and counts. A stage reads its candidates from the table and writes one
verdict for each of them; no job gathers structures or numbers of others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pydantic import Field
from pymatgen.core import Structure

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.campaigns.battery_reasons import because
from dpa4_flows.results import ResultsError, ResultsTable
from dpa4_flows.schemas import Document, RelaxationDocument, StageResult

RELAX_UNITS = {
    "energy_per_atom": "eV/atom",
    "fmax": "eV/Å",
    "n_steps": "",
    "volume_change_percent": "%",
}


class StageSummary(Document):
    """What a stage job hands on: counts only, the verdicts are in the table."""

    stage: str
    n_passed: int = Field(description="Go on without remark")
    n_flagged: int = Field(description="Go on with a warning")
    n_failed: int = Field(description="Rejected by a criterion")
    n_error: int = Field(description="Could not be computed")


def write_verdicts(table: ResultsTable, stage: str, verdicts: Iterable[StageResult]) -> StageSummary:
    """Store the verdicts of one stage and count them."""
    verdicts = list(verdicts)
    table.put_stages(verdicts)
    counts = Counter(verdict.status for verdict in verdicts)
    return StageSummary(
        stage=stage,
        n_passed=counts["passed"],
        n_flagged=counts["flagged"],
        n_failed=counts["failed"],
        n_error=counts["error"],
    )


def stored(table: ResultsTable, keys: Mapping[str, str]) -> dict[str, RelaxationDocument]:
    """Calculations by id.

    Args:
        table: the results table.
        keys: key of the calculation by id.

    Raises:
        ResultsError: a calculation is not there although its job has ended.
    """
    documents = table.calculations(keys.values())
    missing = [i for i, key in keys.items() if key not in documents]
    if missing:
        raise ResultsError(
            f"{len(missing)} calculations are not in {table.path}, that of {missing[0]!r} is the first; "
            "start the run again"
        )
    return {i: documents[key] for i, key in keys.items()}


def judge_relaxation(
    candidate_id: str,
    stage: str,
    document: RelaxationDocument,
    *,
    fmax: float,
    max_volume_change_percent: float | None,
) -> StageResult:
    """Verdict on one relaxation: an unconverged structure has no energy that could be compared, so it leaves here.

    Args:
        candidate_id: the candidate.
        stage: name of the stage.
        document: the relaxation.
        fmax: wanted largest generalised force, eV/Å.
        max_volume_change_percent: a larger change of volume is flagged; None never flags.
    """
    result = StageResult(
        candidate_id=candidate_id,
        stage=stage,
        status="passed",
        units=RELAX_UNITS,
        thresholds={"fmax": fmax, "volume_change_percent": max_volume_change_percent},
        calculation_keys=[document.key],
        provenance=document.provenance,
    )
    if document.error is not None:
        return result.model_copy(
            update={"status": "error", "reasons": [because("not_computed", document.error)], "units": {}}
        )
    result.values = {name: getattr(document, name) for name in RELAX_UNITS}
    if not document.converged:
        reached = "unknown" if document.fmax is None else f"{document.fmax:.3g} eV/Å"
        result.status = "error"
        sentence = (
            f"the relaxation did not converge: fmax {reached} after {document.n_steps} steps, wanted {fmax:g} eV/Å"
        )
        result.reasons = [because("not_converged", sentence + (f" ({document.reason})" if document.reason else ""))]
        return result
    if document.minimum == "saddle":
        sentence = "the relaxation ended on a saddle point that it could not leave: a lower structure is near"
        result.reasons.append(because("saddle_charged" if stage == "relax_charged" else "saddle", sentence))
    change = document.volume_change_percent
    if max_volume_change_percent is not None and change is not None and abs(change) > max_volume_change_percent:
        sentence = (
            f"the volume changed by {change:+.1f} % on relaxation (more than {max_volume_change_percent:g} %): "
            "the input cell was far from equilibrium"
        )
        result.reasons.append(because("input_far_off", sentence))
    if result.reasons:
        result.status = "flagged"
    return result


def relaxed_structure(document: RelaxationDocument) -> Structure:
    """Relaxed structure of a converged calculation."""
    assert document.structure is not None, document.key
    return structure_of_fields(document.structure)


def calculation_keys(table: ResultsTable, stage: str, ids: Sequence[str]) -> dict[str, str]:
    """Key of the one calculation behind the verdict of ``stage``, by candidate id."""
    results = table.stage(stage, ids)
    return {i: results[i].calculation_keys[0] for i in ids}
