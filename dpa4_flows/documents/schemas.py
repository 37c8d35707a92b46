"""Documents that jobs return and the results table stores; every number carries its unit in the description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dpa4_core.verdicts import ErrorCode, Minimum, code_of_earlier_version
from dpa4_flows.analysis.completeness import HullCompleteness, HullVerdict, hull_verdict, not_recorded
from dpa4_flows.documents.quantities import Listing, Unit, shown
from dpa4_flows.documents.reasons import Reason, of_flags, voided, with_reliability_as_reasons

Status = Literal["passed", "failed", "flagged", "error"]
"""`flagged` goes on with a warning, `failed` was rejected by a criterion, `error` could not be computed."""

FOR_READERS = object()
"""Context of a serialisation that leaves out what only a store has to keep."""


class Document(BaseModel):
    """Base of all documents: unknown fields are errors, so that a typing mistake is never stored."""

    model_config = ConfigDict(extra="forbid")

    @property
    def failed(self) -> bool:
        """Whether something in it could not be computed; then it is tried again where failures are."""
        return getattr(self, "error", None) is not None

    @property
    def has_none(self) -> bool:
        """Whether its error is an answer: of this crystal there is none of what was asked for."""
        return False

    @property
    def further(self) -> Mapping[str, dict[str, Any]]:
        """Structures in it beside the one that it is about, as pymatgen dictionaries by a name for each."""
        return {}

    @property
    def listings(self) -> Sequence[Listing]:
        """Tables of what no row of numbers can say; lists whose entries declare quantities are tables anyway."""
        return ()


class EnergyFrame(Document):
    """What an energy is relative to; energies of different frames never meet on a hull."""

    dispersion: str = Field("", description="Name of the dispersion in the energy; empty for none")
    model_sha256: str = Field(description="SHA-256 of the model file that computed the energy")
    level_of_theory: str = Field(description="Functional and +U policy that the model was trained on")
    correction: str = Field(description="Correction scheme applied: none, MP2020, OMat24, ...")


class Provenance(Document):
    """Which model, settings and code made a result."""

    model_name: str = Field(description="Registry name, path or import path of the potential")
    model_sha256: str = Field(description="SHA-256 of the model file; of the import path for toy potentials")
    level_of_theory: str = Field(description="Functional and +U policy that the model was trained on")
    dispersion: str = Field("", description="Name of the dispersion that was added to the model; empty for none")
    zeros: dict[str, str] = Field(
        default_factory=dict, description="Elements whose energy zero fine-tuning shifted, each with its data"
    )
    undecided: list[str] = Field(
        default_factory=list, description="Elements whose energy zero the model's data tell only together with others"
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="Every setting that changes the numbers")
    code_version: str = Field(description="Version of dpa4-flows; of a checkout with its revision")
    versions: dict[str, int] = Field(
        default_factory=dict,
        exclude_if=lambda versions: not versions,  # as documents of earlier versions have it
        description="Version of the science of each property that it rests on, by name; those not named have the first",
    )
    pymatgen_version: str | None = Field(None, description="Version of pymatgen where it decides numbers (hulls)")
    wall_time_s: float | None = Field(None, description="Wall time, s; shared equally inside a batch")
    created: datetime = Field(default_factory=lambda: datetime.now(UTC), description="Time of creation, UTC")


class AnswerDocument(Document):
    """Base of what is said of one crystal: where there is no answer, the error says why."""

    error: str | None = Field(None, description="Why there is no answer, one sentence")
    error_code: str | None = Field(None, description="The same for programs")
    provenance: Provenance


class RelaxationDocument(Document):
    """One relaxed structure, or the sentence that says why there is none."""

    key: str = Field(description="Hash of structure, model and settings: the primary key of the calculation")
    structure_hash: str = Field(description="Hash of the input structure")
    formula: str = Field(description="Reduced formula")
    n_atoms: int = Field(description="Atoms in the cell")
    structure: dict[str, Any] | None = Field(None, description="Relaxed structure as a pymatgen dictionary")
    energy: Annotated[float | None, Unit("eV")] = Field(None, description="Uncorrected total energy of the cell, eV")
    energy_per_atom: float | None = shown(
        "Energy", "eV/atom", 4, "uncorrected model energy", goal="min", detail=True, priority=40
    )
    energy_per_atom_std: float | None = shown(
        "Deviation of the energy", "eV/atom", 4, "of the members of a committee", goal="min", detail=True
    )
    worst_force_std: float | None = shown(
        "Largest force deviation", "eV/Å", 3, "of the members of a committee", goal="min", detail=True
    )
    member_energies: list[float] | None = Field(
        None, description="Uncorrected total energy of the cell by each member of a committee, eV"
    )
    fmax: float | None = shown(
        "Largest force",
        "eV/Å",
        3,
        goal="min",
        detail=True,
        priority=41,
        description="Largest generalised force at the end, eV/Å",
    )
    pressure_gpa: float | None = Field(None, description="Pressure at the end, GPa, positive when compressed")
    volume: Annotated[float | None, Unit("Å³")] = Field(None, description="Relaxed cell volume, Å³")
    volume_change_percent: float | None = shown(
        "Volume change", "%", 1, "on relaxation", goal="zero", too_high="input_far_off", detail=True, priority=39
    )
    n_steps: int = shown("Optimiser steps", digits=0, detail=True, priority=42, default=0)
    converged: bool = Field(False, description="Whether fmax fell below the threshold")
    reason: str = Field("", description="Why the relaxation ended")
    minimum: Minimum = shown(
        "Minimum",
        default="not_checked",
        description="Whether no way down was found around the end: verified, likely, saddle or not_checked",
        detail=True,
        priority=44,
    )
    doubts: list[Reason] = Field(
        default_factory=list, description="What deserves a look, also where it converged: flags of `RelaxResult`"
    )
    error: str | None = Field(None, description="One sentence if the structure could not be computed")
    error_code: ErrorCode | None = Field(None, description="The same for logic")
    provenance: Provenance

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_version(cls, data: Any) -> Any:
        """Documents that were stored before errors had a code, or before there were doubts."""
        if isinstance(data, dict) and data.get("error") and "error_code" not in data:
            return {**data, "error_code": code_of_earlier_version(data["error"])}
        if isinstance(data, dict) and data.get("minimum") == "saddle" and "doubts" not in data:
            return {**data, "doubts": of_flags(["saddle"])}
        return data


class HullDocument(Document):
    """Where one phase lies with respect to the convex hull of its chemical system, all by one model."""

    formula: str = Field(description="Reduced formula")
    chemsys: str = Field(description="Chemical system, elements joined by dashes")
    energy_per_atom_corrected: float = Field(description="Corrected energy, eV/atom")
    correction_per_atom: float = Field(description="Sum of the corrections, eV/atom")
    corrections: dict[str, float] = Field(default_factory=dict, description="Each correction by name, eV per cell")
    formation_energy_per_atom: float = Field(
        description="Formation energy from the elements, eV/atom; at 0 K unless the frame names a temperature"
    )
    energy_above_hull: float | None = Field(
        description="Distance to the hull, eV/atom; 0 means on the hull, null that nothing is known of it, see verdict"
    )
    distance_to_competing: float | None = Field(
        None, description="Signed distance to the hull of the competing phases alone, eV/atom; negative means below it"
    )
    energy_above_hull_std: float | None = Field(
        None,
        description="Standard deviation between members of a committee of the signed distance to the hull of all other "
        "phases, eV/atom; each member places all phases by its own energies",
    )
    distance_to_competing_std: float | None = Field(
        None, description="The same of the distance to the hull of the competing phases alone, eV/atom"
    )
    formation_energy_per_atom_std: float | None = Field(None, description="The same of the formation energy, eV/atom")
    decomposition: dict[str, float] = Field(
        default_factory=dict, description="Competing phases and their atomic fractions"
    )
    n_competing: int = Field(description="Competing phases considered in this chemical system")
    verdict: HullVerdict = Field(description="Stable, above the hull, or unknown, and why")
    completeness: HullCompleteness = Field(description="What competed and who surveyed the phases of the system")
    competing_energies: str = Field("the same model", description="Who computed the competing phases")
    warnings: list[str] = Field(default_factory=list, description="What to know before quoting the numbers")
    frame: EnergyFrame
    provenance: Provenance

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_version(cls, data: Any) -> Any:
        """Documents that were stored before compounds were counted; whatever they said of stability is unknown."""
        if not isinstance(data, dict) or "references_complete" not in data:
            return data
        data = dict(data)
        del data["references_complete"]
        completeness = not_recorded(data["chemsys"], data.pop("missing_references", []))
        distance = data["energy_above_hull"]
        verdict = hull_verdict(distance, data.get("distance_to_competing"), completeness)
        known = None if verdict.code == "unknown" else distance
        return {**data, "energy_above_hull": known, "completeness": completeness, "verdict": verdict}


class Candidate(Document):
    """One structure that enters a campaign."""

    candidate_id: str = Field(description="Unique within the campaign")
    formula: str = Field(description="Reduced formula; the file's words if the structure cannot be read")
    structure: dict[str, Any] | None = Field(None, description="Input structure as a pymatgen dictionary")
    source: str = Field("", description="File and entry, and where it came from")
    tags: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list, description="What its file made doubtful, one sentence each")
    error: str | None = Field(None, description="Why it cannot be used, one sentence")

    @property
    def is_disordered(self) -> bool:
        """Whether several elements, or one and nothing, share a site of it."""
        sites = () if self.structure is None else self.structure["sites"]
        return any(len(site["species"]) > 1 or site["species"][0].get("occu", 1) < 1 for site in sites)


class StageResult(Document):
    """What one stage of a funnel decided about one candidate. Nothing is ever deleted: a rejected candidate keeps
    its stage, status and reasons."""

    candidate_id: str
    stage: str = Field(description="Name of the stage, e.g. sanity, relax, hull")
    status: Status
    values: dict[str, float | int | str | bool | None] = Field(default_factory=dict, description="Results by name")
    units: dict[str, str] = Field(default_factory=dict, description="Unit of each value")
    thresholds: dict[str, float | int | str | bool | None] = Field(
        default_factory=dict, description="Criteria that decided, by value name"
    )
    reasons: list[Reason] = Field(default_factory=list, description="Rejection, flags or error")
    calculation_keys: list[str] = Field(default_factory=list, description="Keys of the calculations behind the values")
    document: dict[str, Any] | None = Field(None, description="Full document of the stage (HullDocument, ...)")
    provenance: Provenance | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_version(cls, data: Any) -> Any:
        return with_reliability_as_reasons(data, "reasons")

    @property
    def goes_on(self) -> bool:
        """Whether the candidate enters the next stage."""
        return self.status in ("passed", "flagged")


class RankedCandidate(Document):
    """One row of the final table."""

    rank: int
    candidate_id: str
    formula: str
    score: float | None = Field(description="Weighted mean over the known properties, 0 to 1; null if none is known")
    score_interval: tuple[float, float] | None = Field(
        None, description="Score with each unknown property at its worst and at its best; the lower end ranks"
    )
    score_parts: dict[str, float] = Field(
        default_factory=dict, description="What each known property adds to the lower end"
    )
    pareto: bool = Field(False, description="Not dominated by any other candidate in the ranked properties")
    values: dict[str, float | int | str | bool | None] = Field(default_factory=dict)
    flags: list[Reason] = Field(default_factory=list, description="Reasons for doubt gathered on the way")

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_version(cls, data: Any) -> Any:
        return with_reliability_as_reasons(data, "flags")

    @property
    def voided(self) -> list[str]:
        """Names of the values that mean nothing."""
        return voided(self.flags)

    @property
    def doubtful(self) -> bool:
        """Whether a flag bars it from headlines."""
        return any(flag.disqualifies for flag in self.flags)


class ChunkSummary(Document):
    """What a chunk job hands on: counts only, the results are in the table."""

    n_requested: int
    n_computed: int = Field(description="Computed in this job")
    n_reused: int = Field(description="Found in the results table")
    n_failed: int = Field(description="Stored with an error")
    n_unconverged: int = Field(0, description="Stored without reaching fmax")
