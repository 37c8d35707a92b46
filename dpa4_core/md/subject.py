"""What is simulated: the atoms that move, the model that moves them, and what makes a run this run and no other."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixCartesian

from dpa4_core.data.site_data import as_atoms, with_cartesian_constraints
from dpa4_core.data.structures import System, to_system
from dpa4_core.md.integrators import prepare
from dpa4_core.md.settings import MDSettings
from dpa4_core.model.info import ModelInfo
from dpa4_core.potential import PotentialLike


def movable_atoms(structure: Any, system: System) -> Atoms:
    """A copy of ``structure`` that may be moved."""
    if isinstance(structure, Atoms):
        atoms = as_atoms(structure)
        if "masses" in atoms.arrays:  # with gaps, perhaps
            atoms.set_masses("defaults" if system.masses is None else system.masses)
        return atoms
    if not isinstance(structure, System):
        return with_cartesian_constraints(as_atoms(structure))
    atoms = Atoms(numbers=system.numbers, positions=system.positions, cell=system.cell, pbc=system.pbc)
    if system.masses is not None:
        atoms.set_masses(system.masses)
    if system.charge_spin is not None:
        atoms.info.update(zip(("charge", "spin"), system.charge_spin, strict=True))
    atoms.set_constraint([FixCartesian(i, mask) for i, mask in enumerate(system.fixed) if mask.any()])
    return atoms


def model_card(potential: PotentialLike) -> dict[str, Any]:
    """Which potential, in plain JSON types."""
    info = getattr(potential, "info", None)
    card = info if isinstance(info, ModelInfo) else ModelInfo(name=type(potential).__name__)
    return {
        "name": card.name,
        "sha256": card.sha256,
        "level_of_theory": card.level_of_theory,
        "dtype": str(getattr(potential, "dtype", "float64")).removeprefix("torch."),
        "device": str(potential.device),
    }


def identity_of(system: System, atoms: Atoms, potential: PotentialLike, settings: MDSettings) -> dict[str, Any]:
    """What makes a run this run: structure, model and settings, flat and in plain JSON types."""
    model = model_card(potential)
    del model["device"], model["level_of_theory"]
    named = {"structure": _digest(system, atoms, settings)} | {f"model_{key}": value for key, value in model.items()}
    return json.loads(json.dumps(named | settings.identity()))


def structure_digest(structure: Any, settings: MDSettings) -> str:
    """What `identity_of` says of ``structure``: by it a run is found again, whatever its files are called.

    Raises:
        DPA4Error: a structure that cannot be computed, or cannot move so.
    """
    system = to_system(structure)
    atoms = movable_atoms(structure, system)
    prepare(atoms, settings)
    return _digest(system, atoms, settings)


def _digest(system: System, atoms: Atoms, settings: MDSettings) -> str:
    content = [system.numbers, system.positions, system.cell, atoms.get_masses(), system.fixed]
    if settings.keep_velocities:
        content.append(atoms.get_momenta())
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in content))
    periodicity = system.pbc.tolist() if system.periodic and not system.pbc.all() else system.periodic
    digest.update(str((periodicity, system.charge_spin)).encode())
    return digest.hexdigest()


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """The first thing that differs, for a message."""
    for name in [*new, *old]:
        before, after = old.get(name), new.get(name)
        if before != after:
            return f"another {name}" if name in ("structure", "model_sha256") else f"{name} {before}, not {after}"
    return "another kind of run"
