"""Our potentials for torch-sim: its batched dynamics, optimisers and Monte Carlo. Needs the extra ``torchsim``.

    import torch_sim as ts
    from dpa4_flows.torchsim import TorchSimModel

    state = ts.integrate(system=crystals, model=TorchSimModel(potential), integrator=ts.Integrator.nvt_langevin, ...)

torch-sim keeps lattice vectors in the columns of its cells, we in the rows; energies, forces and stress have the same
units and signs (eV, eV/Å, eV/Å³ positive under tension).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_sim as ts
from torch import Tensor
from torch_sim.models.interface import ModelInterface

from dpa4_core.data import neighbours_cuda
from dpa4_core.data.graph import UNSPECIFIED_CHARGE_SPIN, Graph
from dpa4_core.data.neighbours import MIN_EDGE_LENGTH, build_graph
from dpa4_core.data.structures import StructureError
from dpa4_core.data.system import System, symbol
from dpa4_core.loaded import as_potential
from dpa4_core.potential import PotentialLike


class TorchSimModel(ModelInterface):
    """A potential as torch-sim's model; energies, forces, stress and energies per atom of a batch of systems.

    Axes are periodic or not as the state's ``pbc`` says. The stress of slabs and chains is zero along open axes; that
    of systems without periodicity is NaN. Charge and spin multiplicity are read from the state's system extras
    ``charge`` and ``spin``.

    Args:
        potential: a potential, or the name or path of one.
        device: "cpu", "cuda", ...; for names and paths.
        precision: "float32" or "float64", of the network; for names and paths.
        dtype: of the states and results. Positions of a float32 state are good to 1e-6 of the size of the system.
    """

    def __init__(
        self,
        potential: PotentialLike | str | Path = "dpa4-neo",
        *,
        device: str = "cpu",
        precision: str = "float32",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self.potential = as_potential(potential, device, precision)
        self._device = self.potential.device
        self._dtype = dtype
        self._compute_stress = True
        self._compute_forces = True
        self._memory_scales_with = "n_atoms_x_density"
        self._checked: Tensor | None = None

    def forward(self, state: ts.SimState, **_: Any) -> dict[str, Tensor]:
        """``energy`` [n_systems], ``forces`` [n_atoms, 3], ``stress`` [n_systems, 3, 3], ``energies`` [n_atoms].

        Raises:
            StructureError: an element that the potential does not know.
        """
        self._check_elements(state.atomic_numbers)
        output = self.potential.compute(_graph(state, self.potential.cutoff))
        results = {
            "energy": output.energy,
            "forces": output.forces,
            "stress": output.stress,
            "energies": output.atom_energies,
        }
        return {name: value.detach().to(state.device, self._dtype) for name, value in results.items()}

    def _check_elements(self, numbers: Tensor) -> None:
        if self._checked is not None and torch.equal(self._checked, numbers):
            return
        unknown = sorted(set(torch.unique(numbers).tolist()) - self.potential.elements)
        if unknown:
            known = len(self.potential.elements)
            raise StructureError(f"element {symbol(unknown[0])} is not in this potential ({known} elements)")
        self._checked = numbers.clone()


def _graph(state: ts.SimState, cutoff: float) -> Graph:
    """Atoms and edges of a state, on its device."""
    if state.device.type == "cuda" and neighbours_cuda.AVAILABLE:
        return batched_graph(state, cutoff)
    return build_graph(_systems(state), cutoff, state.device)


def batched_graph(state: ts.SimState, cutoff: float) -> Graph:
    """The graph by the search that takes all systems at once and leaves the arrays where they are, on a GPU."""
    cell, pbc = _rows(state)
    nodes: dict[str, Any] = {
        "positions": state.positions.double().contiguous(),
        "cell": cell,
        "pbc": pbc.expand(state.n_systems, 3).contiguous(),
        "system_idx": state.system_idx.long(),
    }
    src, dst, shift = neighbours_cuda.batched_edges(**nodes, radius=cutoff, min_length=MIN_EDGE_LENGTH)
    return Graph(
        **nodes,
        atomic_numbers=state.atomic_numbers.long(),
        src=src,
        dst=dst,
        shift=shift,
        n_systems=state.n_systems,
        charge_spin=_charge_spin(state),
    )


def _rows(state: ts.SimState) -> tuple[Tensor, Tensor]:
    """Cells with lattice vectors in rows, zeros without periodicity; and which of them repeat the systems, [3]."""
    cell = state.cell.transpose(1, 2).double().contiguous()
    pbc = torch.as_tensor(state.pbc, dtype=torch.bool, device=cell.device)
    return torch.where(pbc.any(), cell, 0.0), pbc


def _systems(state: ts.SimState) -> list[System]:
    cell, pbc = _rows(state)
    ends = torch.bincount(state.system_idx, minlength=state.n_systems).cumsum(0).tolist()
    positions = state.positions.detach().double().cpu().numpy()
    numbers = state.atomic_numbers.long().cpu().numpy()
    cells = cell.detach().cpu().numpy()
    charge_spin = _charge_spin(state)
    pairs = [None] * state.n_systems if charge_spin is None else [tuple(pair) for pair in charge_spin.tolist()]
    return [
        System(
            numbers=numbers[begin:end],
            positions=positions[begin:end],
            cell=cells[i],
            pbc=pbc.cpu().numpy(),
            fixed=np.zeros((end - begin, 3), dtype=bool),
            charge_spin=pairs[i],
        )
        for i, (begin, end) in enumerate(zip([0, *ends], ends, strict=False))
    ]


def _charge_spin(state: ts.SimState) -> Tensor | None:
    """[n_systems, 2] int64; None where the state says nothing."""
    if not (state.has_extras("charge") or state.has_extras("spin")):
        return None
    columns = [
        getattr(state, name).round().long() if state.has_extras(name) else torch.full((state.n_systems,), missing)
        for name, missing in zip(("charge", "spin"), UNSPECIFIED_CHARGE_SPIN, strict=True)
    ]
    return torch.stack([column.to(state.device) for column in columns], dim=1)
