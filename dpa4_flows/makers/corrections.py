"""Formation energies of well-measured compounds by one model: how far they are from experiment, and the corrections
that bring them nearest.

flow = CorrectionRefitMaker(model="my.dpa4").make("refit.sqlite", file="my-corrections.yaml")
run_local(flow, "refit")
ConvexHullMaker(property=Hull(corrections="my-corrections.yaml"))
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jobflow import Flow, JobOrder, job
from pydantic import Field
from pymatgen.entries.computed_entries import ComputedStructureEntry

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.correction_fit import (
    experimental_formation_energies,
    fit_corrections,
    refit_content,
    write_refit,
)
from dpa4_flows.analysis.hull import phase_positions
from dpa4_flows.analysis.schemes import refit_path, scheme_name
from dpa4_flows.documents.provenance import provenance
from dpa4_flows.documents.schemas import Document, Provenance
from dpa4_flows.makers.model_reference import WholeMaker
from dpa4_flows.makers.named import BatchRelaxMaker
from dpa4_flows.reference.entries import document_entry
from dpa4_flows.reference.library import ReferencePhase, bundled_elements, load_phases
from dpa4_flows.store.table import ResultsTable, TableRef, open_for_job, table_for_jobs

VALIDATION = "validation"
"""Role of the 41 bundled compounds by which models are compared; the others serve refits only."""

BASE = "OMat24"
"""Scheme whose rules decide which atoms are corrected, and whose numbers stay where a refit has no compound."""

_COMPOUNDS_FILE = Path(__file__).parents[1] / "data" / "thermo_compounds.json.gz"


class ThermoRow(Document):
    """One compound: measured and computed formation energy."""

    formula: str = Field(description="Reduced formula")
    experiment: float = Field(description="Measured formation energy, eV/atom, 298 K")
    uncertainty: float | None = Field(None, description="Its uncertainty, eV/atom")
    hubbard_u: bool = Field(description="Whether the level of theory puts +U on this compound")
    formation_energies: dict[str, float] = Field(
        default_factory=dict, description="Formation energy by correction scheme, eV/atom, 0 K"
    )
    correction_uncertainties: dict[str, float] = Field(
        default_factory=dict, description="Standard error of the corrections by scheme, eV/atom"
    )
    error: str | None = Field(None, description="Why a formation energy is missing, one sentence")


class ThermoDocument(Document):
    """Formation energies of one model against experiment."""

    rows: list[ThermoRow]
    mae: dict[str, float] = Field(description="Mean absolute error by correction scheme, eV/atom")
    mae_hubbard_u: dict[str, float] = Field(description="The same over compounds with +U, eV/atom")
    mae_others: dict[str, float] = Field(description="The same over the other compounds, eV/atom")
    provenance: Provenance


class CorrectionRefitDocument(Document):
    """A correction scheme fitted to one model."""

    scheme: str = Field(description="Name of the scheme in energy frames: refit:<hash>")
    file: str | None = Field(None, description="Where the numbers were written")
    content: dict[str, Any] = Field(description="Content of that file")
    values: dict[str, float] = Field(description="Fitted corrections, eV per atom of the kind")
    errors: dict[str, float] = Field(description="Their standard errors, eV per atom of the kind")
    scatter: float = Field(description="Scatter of the model about the scheme, eV/atom")
    mae: float = Field(description="Mean absolute error of the fitted compounds, eV/atom")
    left_out_mae: float = Field(
        description="The same with each compound left out of its own fit, eV/atom, where it decides no number alone"
    )
    residuals: dict[str, float] = Field(description="Fitted minus measured by compound, eV/atom")
    left_out: dict[str, str] = Field(description="Compounds that were not fitted, and why")
    provenance: Provenance


@dataclass
class CorrectionRefitMaker(WholeMaker):
    """Flow that relaxes well-measured compounds and their elements, and fits a correction scheme to them.

    The scheme belongs to the model that it was fitted to and is refused for any other.

    Args:
        name: name of the flow.
        model: potential that the corrections are for.
        relax_maker: relaxes compounds and elements.
        files: files of further compounds with a measured formation energy in pymatgen's table.
    """

    name: str = "correction refit"
    relax_maker: BatchRelaxMaker = field(default_factory=BatchRelaxMaker)
    files: list[str] = field(default_factory=list)

    def make(self, table: str | Path | TableRef = "refit.sqlite", file: str | Path | None = None) -> Flow:
        """Flow whose output is a `CorrectionRefitDocument`.

        Args:
            table: results table; what it holds from earlier runs is not computed again.
            file: .yaml file to write the scheme to; it is put in the cache in any case.
        """
        path = table_for_jobs(table, shared=self.relax_maker.shared_table)
        compounds = [*bundled_compounds(), *load_phases(self.files)]
        phases = [*compounds, *elements_of(compounds)]
        relaxation = self.relax_maker.make(table=path, structures=[phase.structure for phase in phases])
        files = [str(Path(name).resolve()) for name in self.files]
        fitting = refit_corrections(path, self.relax_maker, files, None if file is None else str(Path(file).resolve()))
        fitting.name = self.name
        return Flow([relaxation, fitting], output=fitting.output, name=self.name, order=JobOrder.LINEAR)


@job(output_schema=CorrectionRefitDocument)
def refit_corrections(
    table: str | TableRef, relax_maker: BatchRelaxMaker, files: list[str], file: str | None
) -> CorrectionRefitDocument:
    """Fit to what is in the table; see `CorrectionRefitMaker`."""
    compounds = [*bundled_compounds(), *load_phases(files)]
    results = open_for_job(table, shared=relax_maker.shared_table)
    return refit_document(results, relax_maker, compounds, None if file is None else Path(file))


def bundled_compounds(role: str | None = None) -> list[ReferencePhase]:
    """Structures of the bundled compounds with measured formation energies, all or those of one role."""
    return [phase for phase in load_phases([_COMPOUNDS_FILE]) if role is None or phase.role == role]


def elements_of(compounds: Iterable[ReferencePhase]) -> list[ReferencePhase]:
    """Bundled structures of the elements in ``compounds``."""
    return bundled_elements({symbol for compound in compounds for symbol in compound.elements})


def thermo_document(
    table: ResultsTable,
    maker: BatchRelaxMaker,
    compounds: Sequence[ReferencePhase],
    schemes: Sequence[str],
) -> ThermoDocument:
    """Formation energies of relaxed compounds against experiment.

    Args:
        table: results table with the compounds and their elements.
        maker: what relaxed them.
        compounds: compounds with a measured formation energy.
        schemes: correction schemes.
    """
    experiment = experimental_formation_energies()
    if unknown := [c.name for c in compounds if c.structure.composition.reduced_formula not in experiment]:
        raise DPA4Error(f"{unknown[0]} has no measured formation energy in pymatgen's table; leave it out")
    rows = []
    for compound in compounds:
        formula = compound.structure.composition.reduced_formula
        measured = experiment[formula]
        rows.append(
            ThermoRow(
                formula=formula,
                experiment=measured.formation_energy,
                uncertainty=measured.uncertainty,
                hubbard_u=False,
            )
        )
    for scheme in schemes:
        entries, reasons = phase_entries(table, maker, compounds, scheme)
        elements, _ = phase_entries(table, maker, elements_of(compounds), scheme)
        found = {str(entry.entry_id): entry for entry in entries}
        positions = {p.entry_id: p for p in phase_positions(entries, elements)}
        for row, compound in zip(rows, compounds, strict=True):
            if compound.name not in found:
                row.error = reasons[compound.name]
                continue
            energy = positions[compound.name].formation_energy_per_atom
            row.hubbard_u = bool(found[compound.name].parameters["hubbards"])
            if energy is None:
                row.error = positions[compound.name].error or "no reference for an element"
            else:
                row.formation_energies[scheme] = energy
                row.correction_uncertainties[scheme] = _uncertainty(found[compound.name])
    info = maker.model.info()
    return ThermoDocument(
        rows=rows,
        mae=_errors(rows, schemes),
        mae_hubbard_u=_errors([row for row in rows if row.hubbard_u], schemes),
        mae_others=_errors([row for row in rows if not row.hubbard_u], schemes),
        provenance=provenance(info, {**maker.settings(), "schemes": list(schemes)}, with_pymatgen=True),
    )


def refit_document(
    table: ResultsTable, maker: BatchRelaxMaker, compounds: Sequence[ReferencePhase], file: Path | None = None
) -> CorrectionRefitDocument:
    """Fit a scheme to relaxed compounds and write it.

    Args:
        table: results table with the compounds and their elements.
        maker: what relaxed them.
        compounds: compounds with a measured formation energy.
        file: .yaml file for the scheme; without one it is put in the cache only.

    Raises:
        DPA4Error: no compound could be corrected at all, as for a model that is no PBE.
        SchemeError: the compounds do not decide the corrections.
    """
    entries, reasons = phase_entries(table, maker, compounds, BASE)
    if not entries:
        raise DPA4Error(f"corrections cannot be fitted: {next(iter(reasons.values()), 'there are no compounds')}")
    elements, _ = phase_entries(table, maker, elements_of(compounds), BASE)
    fit = fit_corrections(entries, elements)
    info = maker.model.info()
    content = refit_content(fit, info.name, base=BASE)
    content["Fit"]["relaxation"] = maker.settings()
    scheme = _write(content, file)
    return CorrectionRefitDocument(
        scheme=scheme,
        file=None if file is None else str(file),
        content=content,
        values=fit.values,
        errors=fit.errors,
        scatter=fit.scatter,
        mae=fit.mae,
        left_out_mae=fit.left_out_mae,
        residuals={compound.formula: compound.residual for compound in fit.compounds},
        left_out={**reasons, **fit.left_out},
        provenance=provenance(info, {**maker.settings(), "base": BASE}, with_pymatgen=True),
    )


def phase_entries(
    table: ResultsTable, maker: BatchRelaxMaker, phases: Sequence[ReferencePhase], scheme: str
) -> tuple[list[ComputedStructureEntry], dict[str, str]]:
    """Corrected entries of relaxed phases, and by name why a phase has none."""
    keys = {phase.name: maker.key(phase.structure) for phase in phases}
    documents = table.calculations(keys.values())
    entries, reasons = [], {}
    for name, key in keys.items():
        if key not in documents:
            reasons[name] = "not computed yet"
            continue
        corrected = document_entry(documents[key], scheme, name)
        if corrected.entry is None or not documents[key].converged:
            reasons[name] = corrected.reason or "the relaxation did not converge"
        else:
            entries.append(corrected.entry)
    return entries, reasons


def _errors(rows: Sequence[ThermoRow], schemes: Sequence[str]) -> dict[str, float]:
    """Mean absolute error by scheme, over the compounds that have all formation energies."""
    complete = [row for row in rows if row.error is None]
    if not complete:
        return {}
    return {
        scheme: float(np.mean([abs(row.formation_energies[scheme] - row.experiment) for row in complete]))
        for scheme in schemes
    }


def _uncertainty(entry: ComputedStructureEntry) -> float:
    """Standard error of the corrections, eV/atom; those of different kinds count as independent."""
    return float(entry.correction_uncertainty_per_atom) if entry.energy_adjustments else 0.0


def _write(content: dict[str, Any], file: Path | None) -> str:
    """Write the file, put it in the cache, and give the name."""
    path = file or refit_path(content["Name"])
    write_refit(content, path)
    return scheme_name(str(path))
