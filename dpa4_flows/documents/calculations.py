"""Keys and documents of calculations: how a relaxed structure gets into the results table and is found there
again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pymatgen.core import Molecule, Structure

from dpa4_core.data.deviates import random_displacements
from dpa4_core.data.identifiers import STATED
from dpa4_core.data.structures import StructureError, System, to_system
from dpa4_core.digests import digest
from dpa4_core.model.info import ModelInfo
from dpa4_core.predict import Prediction
from dpa4_core.relax import RelaxResult
from dpa4_core.relax.optimizer import OptimizerName
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_flows.documents.provenance import provenance
from dpa4_flows.documents.reasons import of_flags
from dpa4_flows.documents.schemas import RelaxationDocument
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.site_conversion import plain, with_written_masses

RATTLE = 0.02
"""Å: usual width of the push that takes atoms off saddle points; less than they move by themselves at 0 K."""

UNNAMED = {"optimizer": "auto", "max_step": None, "cell": "full", "keep_symmetry": False}
"""Options that settings without ``check_minimum`` name only where they have another value."""
_DECIMALS = 8  # Å; a change of 1e-8 Å is no other structure


def plain_structure(structure: Structure | Molecule) -> Structure | Molecule:
    """Copy with nothing but what decides a calculation: lattice, species, coordinates, charge, what is fixed, masses;
    and what its file states that none computes (`STATED`).

    Files bring virials, forces and labels of other codes, as arrays that no JSON document can hold.
    """
    structure = with_written_masses(structure)
    masses = structure.site_properties.get("masses")
    properties: dict[str, Any] = {} if masses is None else {"masses": masses}
    if isinstance(structure, Molecule):
        return Molecule(
            structure.species_and_occu,
            structure.cart_coords,
            charge=structure.charge,
            spin_multiplicity=int(structure.spin_multiplicity),
            charge_spin_check=False,
            site_properties=properties,
        )
    fixed = structure.site_properties.get("selective_dynamics")
    if fixed is not None:
        properties["selective_dynamics"] = [None if free is None else np.asarray(free).tolist() for free in fixed]
    return Structure(
        structure.lattice,
        structure.species_and_occu,
        structure.frac_coords,
        charge=structure._charge,
        site_properties=properties,
        properties=stated(structure),
    )


def stated(structure: Structure | Molecule) -> dict[str, Any]:
    """What its file, or whoever made it, states of a structure that no calculation of ours gives."""
    return plain({key: structure.properties[key] for key in STATED if key in structure.properties})


def input_hash(structure: Structure | Molecule) -> str:
    """Hash of what a potential sees of ``structure``, elements, positions, cell, periodicity, fixed coordinates, charge
    and spin, and of masses that are not the standard ones.

    Sites keep their order, and nothing is reduced to a primitive cell: the hash names one calculation, not
    one material. A structure that no potential can see (partial occupancy, ...) is hashed as written.
    """
    try:
        system = to_system(structure)
    except StructureError:
        return digest("unreadable", plain_structure(structure).as_dict())
    return system_hash(system)


def system_hash(system: System) -> str:
    """`input_hash` of a structure that is in arrays already."""
    positions, cell = (np.round(x, _DECIMALS) + 0.0 for x in (system.positions, system.cell))  # + 0.0: no minus zero
    # a crystal, a molecule and standard masses have the hashes that they had before there was anything else
    masses = [] if system.masses is None else [np.round(system.masses, _DECIMALS).tolist()]
    return digest(
        system.numbers.tolist(),
        positions.tolist(),
        cell.tolist(),
        system.pbc.tolist() if system.periodic and not system.pbc.all() else system.periodic,
        np.flatnonzero(system.fixed).tolist(),
        system.charge_spin,
        *masses,
    )


def rattled(structure: Structure | Molecule, amplitude: float) -> Structure | Molecule:
    """Copy with every coordinate moved by a normal deviate of width ``amplitude`` Å, always the same for one structure.

    A relaxation keeps the symmetry that it starts with; without a push LiNiO2 stays undistorted on top of a barrier.
    Fixed coordinates stay where they are.
    """
    if amplitude == 0:
        return structure
    try:
        system = to_system(structure)
    except StructureError:  # no potential can see it; the relaxation says why
        return structure
    moved = structure.copy()
    shifts = np.where(system.fixed, 0.0, amplitude * random_displacements(system))
    for i, shift in enumerate(shifts):
        if isinstance(moved, Molecule):
            moved.translate_sites([i], shift)
        else:
            moved.translate_sites([i], shift, frac_coords=False, to_unit_cell=False)
    return moved


def calculation_key(structure_hash: str, model: ModelRef | ModelInfo, settings: Mapping[str, Any]) -> str:
    """Primary key of a calculation in the results table.

    Args:
        structure_hash: from `input_hash`.
        model: only its checksum counts; it is loaded if the reference does not carry one.
        settings: every setting that changes the numbers.
    """
    sha256 = model.sha256 or (model.info().sha256 if isinstance(model, ModelRef) else "")
    return digest(structure_hash, sha256, dict(settings))


def relax_settings(
    *,
    fmax: float,
    max_steps: int,
    relax_cell: bool,
    pressure_gpa: float,
    dtype: str,
    optimizer: OptimizerName = "auto",
    max_step: float | None = None,
    cell: str | list[int] = "full",
    keep_symmetry: bool = False,
    check_minimum: bool = True,
) -> dict[str, Any]:
    """The settings of a relaxation as its key has them; arguments as in `dpa4_core.relax`.

    Every option is named, so that no later default finds the results of an earlier one. Without ``check_minimum`` they
    are as they were before there was one, so that the results of that time are found again, by those who ask for
    relaxations that are not checked, and by nobody else.
    """
    settings = {
        "calculation": "relax",
        "fmax": float(fmax),
        "max_steps": int(max_steps),
        "relax_cell": relax_cell,
        "pressure_gpa": float(pressure_gpa),
        "dtype": dtype,
    }
    options = {"optimizer": optimizer, "max_step": max_step, "cell": cell, "keep_symmetry": keep_symmetry}
    if check_minimum:
        return settings | options | {"check_minimum": True}
    return settings | {name: value for name, value in options.items() if value != UNNAMED[name]}


def static_settings(*, dtype: str) -> dict[str, Any]:
    """The settings of a single point as its key has them."""
    return {"calculation": "static", "dtype": dtype}


def relaxation_key(structure: Structure | Molecule, model: ModelRef | ModelInfo, settings: Mapping[str, Any]) -> str:
    """Key under which the relaxation (or single point) of ``structure`` is or will be stored.

    Args:
        structure: the input structure, not the relaxed one.
        model: the model.
        settings: as ``BatchRelaxMaker.settings`` or ``BatchStaticMaker.settings`` give them.
    """
    return calculation_key(input_hash(structure), model, settings)


def relaxation_document(
    structure: Structure | Molecule,
    result: RelaxResult | Prediction,
    model: ModelInfo,
    settings: dict[str, Any],
) -> RelaxationDocument:
    """Document of one result of `dpa4_core.relax` or `dpa4_core.predict`.

    Args:
        structure: the input structure.
        result: what became of it; its error, if any, is stored instead of numbers.
        model: identity card of the model.
        settings: every setting that changes the numbers.
    """
    structure_hash = input_hash(structure)
    document = RelaxationDocument(
        key=calculation_key(structure_hash, model, settings),
        structure_hash=structure_hash,
        formula=structure.composition.reduced_formula,
        n_atoms=len(structure),
        error=result.error,
        error_code=result.error_code,
        provenance=provenance(model, settings),
    )
    if result.error is not None:
        return document
    final = structure if isinstance(result, Prediction) else result.structure
    energy = float(result.energy)
    values: dict[str, Any] = {
        "structure": plain_structure(final).as_dict(),
        "energy": energy,
        "energy_per_atom": energy / len(structure),
        "pressure_gpa": pressure_gpa(result.stress),
    }
    if result.member_energies is not None and result.energy_std is not None:
        values |= {
            "energy_per_atom_std": result.energy_std / len(structure),
            "worst_force_std": result.worst_force_std,
            "member_energies": result.member_energies.tolist(),
        }
    if isinstance(final, Structure) and isinstance(structure, Structure):
        values |= {
            "volume": float(final.volume),
            "volume_change_percent": 100 * (float(final.volume) / float(structure.volume) - 1),
        }
    if isinstance(result, Prediction):
        values |= {"fmax": largest_force(result.forces), "converged": True, "reason": "single point"}
    else:
        values |= {
            "fmax": float(result.fmax),
            "n_steps": int(result.n_steps),
            "converged": bool(result.converged),
            "reason": result.reason,
            "minimum": result.minimum,
            "doubts": of_flags(result.flags),
        }
    return document.model_copy(update=values)


def pressure_gpa(stress: np.ndarray | None) -> float | None:
    """Positive when compressed; None where the stress is not known."""
    if stress is None or not np.isfinite(stress).all():
        return None
    return -float(np.trace(stress)) / 3 * EV_PER_ANGSTROM3_TO_GPA


def largest_force(forces: np.ndarray | None) -> float | None:
    """On any atom, eV/Å."""
    return None if forces is None else float(np.linalg.norm(forces, axis=1).max())
