"""Any ASE calculator as a potential: one system after another, so that every verb and flow also runs with EMT
or VASP.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols
from torch import Tensor

from dpa4_core.data.graph import Graph
from dpa4_core.memory import is_out_of_memory
from dpa4_core.potential import Output, within_span

logger = logging.getLogger(__name__)


class ASEPotential:
    """A `PotentialLike` around an ASE calculator.

    The calculator finds its own neighbours. The edges of the graph, within ``cutoff`` Å, only tell a relaxation how
    stiff bonds are, and whether an atom has left all others. A system for which the calculator raises gets NaN in all
    its results, which `predict` and `relax` turn into an error for that structure; what the calculator does not offer
    (energies per atom, stress) is NaN too. It sees missing lattice vectors as missing, and gives no stress then.

    Args:
        calculator: ASE calculator with energies and forces; stresses where cells are to be relaxed.
        elements: atomic numbers that it can compute; all elements if not given.
    """

    cutoff = 6.0

    def __init__(self, calculator: Calculator, elements: frozenset[int] | None = None) -> None:
        self.calculator = calculator
        self.device = torch.device("cpu")
        self.elements = elements if elements is not None else frozenset(range(1, len(chemical_symbols)))

    def compute(self, graph: Graph) -> Output:
        """Energies, forces, virial and stress of every system in ``graph``, in float64."""
        results = [self._compute_one(atoms) for atoms in _split(graph)]
        energy, atom_energies, forces, stress = (
            torch.from_numpy(np.concatenate(part)) for part in zip(*results, strict=True)
        )
        stress = within_span(stress, graph)
        virial = -stress * graph.volume().to(stress)[:, None, None]
        return Output(energy, atom_energies, forces, virial, stress)

    def _compute_one(self, atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Energy [1], energies per atom [n], forces [n, 3] and stress [1, 3, 3] of one system."""
        n = len(atoms)
        offered = self.calculator.implemented_properties
        atom_energies, stress = np.full(n, np.nan), np.full((1, 3, 3), np.nan)
        atoms.calc = self.calculator
        try:
            energy = np.asarray(atoms.get_potential_energy(), dtype=np.float64).reshape(1)
            forces = np.asarray(atoms.get_forces(), dtype=np.float64).reshape(n, 3)
            if "energies" in offered:
                atom_energies = np.asarray(atoms.get_potential_energies(), dtype=np.float64).reshape(n)
            if "stress" in offered and atoms.pbc.any() and atoms.cell.rank == 3:
                stress = np.asarray(atoms.get_stress(voigt=False), dtype=np.float64).reshape(1, 3, 3)
        except Exception as error:  # calculators raise whatever their authors chose
            if is_out_of_memory(error):
                raise
            logger.warning("%s refused %s: %s", type(self.calculator).__name__, atoms.get_chemical_formula(), error)
            return np.full(1, np.nan), np.full(n, np.nan), np.full((n, 3), np.nan), np.full((1, 3, 3), np.nan)
        finally:
            atoms.calc = None
        return energy, atom_energies, forces, stress


def _split(graph: Graph) -> list[Atoms]:
    """One ``Atoms`` per system, charge and spin multiplicity in ``info`` where they are specified."""
    systems = []
    for i in range(graph.n_systems):
        mine: Tensor = graph.system_idx == i
        atoms = Atoms(
            numbers=graph.atomic_numbers[mine].cpu().numpy(),
            positions=graph.positions[mine].detach().cpu().numpy(),
            cell=graph.cell[i].detach().cpu().numpy(),
            pbc=graph.pbc[i].cpu().numpy(),
        )
        if graph.charge_spin is not None:
            charge, spin = graph.charge_spin[i].tolist()
            if spin >= 0:  # else UNSPECIFIED_CHARGE_SPIN
                atoms.info.update(charge=charge, spin=spin)
        systems.append(atoms)
    return systems
