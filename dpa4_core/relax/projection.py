"""What may move: linear projections of positions and cells, kept by every force and every step.

The optimiser's coordinates, positions in the undeformed cell and the logarithm of the deformation, make all of them
linear and exact: a volume is constant when the logarithm has no trace, a shape when it is a multiple of the identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dpa4_core.data.structures import StructureError, System
from dpa4_core.errors import DPA4Error
from dpa4_core.relax.symmetry import Symmetry, symmetrised
from dpa4_core.relax.vacuum import vacuum_axes

CELL_MODES = ("full", "fixed", "volume", "shape", "all")
_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@dataclass(frozen=True, eq=False)
class Freedom:
    """What may move in one system.

    Attributes:
        cell: [9, 9] projection of a strain, row by row; None for all strains.
        symmetry: that is kept; None for none.
        holds_vacuum: whether a lattice vector that would move stays, since it crosses a vacuum.

    """

    cell: NDArray[np.float64] | None = None
    symmetry: Symmetry | None = None
    holds_vacuum: bool = False


def cell_projection(cell: str | ArrayLike, span: NDArray[np.float64] | None = None) -> NDArray[np.float64] | None:
    """Projection [9, 9] of strains onto those that ``cell`` allows; None if it allows all or the cell is fixed.

    Slabs and chains are strained within the span of their periodic vectors: "volume" keeps an area or a length, "shape"
    scales the plane.

    Args:
        cell: "full", "fixed", "volume" (stays constant), "shape" (stays the same), "all" (also vectors across a vacuum,
            which ``span`` leaves out otherwise), or a mask of the components of the
            strain that may change, 6 (xx, yy, zz, yz, xz, xy) or 3 × 3 of them.
        span: [3, 3] projection onto the span of the periodic vectors; None for a crystal.

    Raises:
        DPA4Error: no such mode or mask.
        StructureError: a mask that goes beyond the span and cannot be cut down to it.

    """
    within = np.eye(3) if span is None else span
    plane = np.asarray(np.kron(within, within), dtype=np.float64)
    if isinstance(cell, str):
        if cell not in CELL_MODES:
            raise DPA4Error(f"unknown cell {cell!r}; choose from {', '.join(CELL_MODES)}, or give a mask of 6 or 3 × 3")
        if cell in ("full", "all"):
            return None if span is None else plane
        trace = np.outer(within, within) / np.trace(within)
        return {"volume": plane - trace, "shape": trace}.get(cell)
    mask = np.asarray(cell)
    if mask.shape == (6,):
        full = np.zeros((3, 3), dtype=mask.dtype)
        for (i, j), value in zip(_VOIGT, mask, strict=True):
            full[i, j] = full[j, i] = value
        mask = full
    if mask.shape != (3, 3) or not np.isin(mask, (0, 1)).all() or (mask != mask.T).any() or not mask.any():
        raise DPA4Error(
            "a mask of the cell has 6 numbers (xx, yy, zz, yz, xz, xy) or 3 × 3 symmetric ones, each 0 or 1 and not "
            f"all 0 (for that use cell='fixed'), not {np.asarray(cell).tolist()}"
        )
    allowed = np.diag(mask.ravel().astype(np.float64))
    both = allowed @ plane
    if not np.allclose(both, plane @ allowed, atol=1e-6) or not both.any():
        raise StructureError(
            "the mask of the cell does not fit axes without periodicity that are not along x, y or z, or it allows "
            "strains along them only; use another mask, or cell='full'"
        )
    return both


def allowed_strains(system: System, cell: str | ArrayLike) -> NDArray[np.float64] | None:
    """`cell_projection` of one structure, whose open axes and vectors across a vacuum stay as they are."""
    span = None
    moving = system.pbc & ~held_vacuum(system, cell)
    if system.periodic and not moving.any():
        return np.zeros((9, 9))
    if system.periodic and not moving.all():
        repeats = system.cell[moving]
        span = np.linalg.pinv(repeats) @ repeats
    return cell_projection(cell, span)


def held_vacuum(system: System, cell: str | ArrayLike) -> NDArray[np.bool_]:
    """Which lattice vectors [3] stay since they cross a vacuum; a mask, and "all", say themselves what moves."""
    return vacuum_axes(system) if isinstance(cell, str) and cell in ("full", "volume", "shape") else np.zeros(3, bool)


def freedom(system: System, cell: str | ArrayLike, *, keep_symmetry: bool, symprec: float) -> tuple[System, Freedom]:
    """What may move in ``system``, and the system itself, made exactly symmetric where symmetry is kept.

    ``cell`` is that of `cell_projection`.

    Raises:
        StructureError: a symmetry that cannot be found, or that the mask of the cell breaks.

    """
    strains, holds_vacuum = allowed_strains(system, cell), bool(held_vacuum(system, cell).any())
    if not keep_symmetry:
        return system, Freedom(strains, holds_vacuum=holds_vacuum)
    system, symmetry = symmetrised(system, symprec)
    both = symmetry.cell
    if strains is not None:
        both = strains @ symmetry.cell
        if not np.allclose(both, symmetry.cell @ strains, atol=1e-6):
            raise StructureError(
                f"the mask of the cell breaks space group {symmetry.number}; use another mask, or keep_symmetry=False"
            )
    return system, Freedom(both, symmetry, holds_vacuum)


class Projection:
    """What may move in all systems of a batch.

    Args:
        freedoms: of every system.
        counts: atoms of every system.
        device: of the batch.

    """

    def __init__(self, freedoms: Sequence[Freedom], counts: Sequence[int], device: torch.device) -> None:
        self._cell = self._pairs = None
        if any(one.cell is not None for one in freedoms):
            everything = np.eye(9)
            cells = [everything if one.cell is None else one.cell for one in freedoms]
            self._cell = torch.from_numpy(np.stack(cells)).to(device)
        if any(one.symmetry is not None for one in freedoms):
            src, dst, rotations = [], [], []
            for one, n, end in zip(freedoms, counts, np.cumsum(counts), strict=True):
                itself, unit = np.arange(n), np.broadcast_to(np.eye(3), (n, 3, 3))
                src.append(end - n + (one.symmetry.src if one.symmetry else itself))
                dst.append(end - n + (one.symmetry.dst if one.symmetry else itself))
                rotations.append(one.symmetry.rotations if one.symmetry else unit)
            parts = (np.concatenate(src), np.concatenate(dst), np.concatenate(rotations))
            self._pairs = tuple(torch.from_numpy(part).to(device) for part in parts)

    def atoms(self, vectors: Tensor) -> Tensor:
        """Forces or displacements [n_atoms, 3] that keep the symmetry."""
        if self._pairs is None:
            return vectors
        src, dst, rotations = self._pairs
        return torch.zeros_like(vectors).index_add(0, dst, torch.einsum("eij,ej->ei", rotations, vectors[src]))

    def cells(self, strains: Tensor) -> Tensor:
        """Forces on cells or strains [n_systems, 3, 3] that are allowed."""
        if self._cell is None:
            return strains
        return torch.einsum("nij,nj->ni", self._cell, strains.reshape(-1, 9)).reshape(-1, 3, 3)
