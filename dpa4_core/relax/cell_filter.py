"""Cell degrees of freedom: the logarithm of the deformation, as in ASE's FrechetCellFilter.

A system at deformation ``F = exp(U)`` has lattice vectors ``cell₀ Fᵀ`` (rows) and positions ``q Fᵀ``, where
``q`` are positions in the undeformed cell. The optimiser moves ``q`` and ``n_atoms · U``; the factor puts
cell and atoms on the same scale, and a force on a cell row counts in ``fmax`` like a force on an atom.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dpa4_core.relax.batch_state import BatchState


@dataclass(frozen=True)
class DeformedSystems(BatchState, per_atom=("positions",)):
    """Geometry in the coordinates of the optimiser.

    Attributes:
        positions: [n_atoms, 3] Å, positions ``q`` in the undeformed cell.
        log_deformation: [n_systems, 3, 3] ``U``, zero for a cell that stays.
        reference_cell: [n_systems, 3, 3] Å, undeformed cell; zeros without periodicity and for missing vectors.
        cell_moves: [n_systems] bool.
        n_atoms: [n_systems] float64, number of atoms.

    """

    positions: Tensor
    log_deformation: Tensor
    reference_cell: Tensor
    cell_moves: Tensor
    n_atoms: Tensor


class Geometry(NamedTuple):
    """Positions [n_atoms, 3] and cells [n_systems, 3, 3] in Å, and the deformation [n_systems, 3, 3]."""

    positions: Tensor
    cell: Tensor
    deformation: Tensor


class GeneralisedForces(NamedTuple):
    """Forces on ``q`` [n_atoms, 3] and on ``n_atoms · U`` [n_systems, 3, 3], eV/Å."""

    forces: Tensor
    cell_forces: Tensor


def geometry(systems: DeformedSystems, system_idx: Tensor) -> Geometry:
    """Cartesian positions and cells."""
    deformation = torch.linalg.matrix_exp(systems.log_deformation)
    transposed = deformation.transpose(1, 2)
    positions = torch.einsum("ni,nij->nj", systems.positions, transposed[system_idx])
    return Geometry(positions, systems.reference_cell @ transposed, deformation)


def log_gradient(log_deformation: Tensor, gradient: Tensor) -> Tensor:
    """Chain rule through the matrix exponential.

    For a function of ``F = exp(U)`` with ``gradient`` ∂f/∂F [n, 3, 3], returns ∂f/∂U = L(Uᵀ, ∂f/∂F), since
    the Fréchet derivative L(Uᵀ, ·) is the adjoint of L(U, ·). It is the upper right block of exp [[Uᵀ,
    ∂f/∂F], [0, Uᵀ]] (Mathias, SIAM J. Matrix Anal. Appl. 17, 610, 1996).
    """
    # L is linear in its second argument; unit scale keeps the squaring steps of matrix_exp few.
    scale = gradient.abs().amax((1, 2), keepdim=True).clamp(min=1e-300)
    transposed = log_deformation.transpose(1, 2)
    top = torch.cat((transposed, gradient / scale), dim=2)
    bottom = torch.cat((torch.zeros_like(transposed), transposed), dim=2)
    return scale * torch.linalg.matrix_exp(torch.cat((top, bottom), dim=1))[:, :3, 3:]


def generalised_forces(
    systems: DeformedSystems,
    at: Geometry,
    forces: Tensor,
    stress: Tensor,
    system_idx: Tensor,
    *,
    volume: Tensor,
    pressure: Tensor,
) -> GeneralisedForces:
    """Forces on the optimiser's coordinates.

    Args:
        systems: the systems.
        at: their geometry.
        forces: [n_atoms, 3] eV/Å, zero on coordinates that must not move.
        stress: [n_systems, 3, 3] eV/Å³; ignored where the cell stays.
        system_idx: [n_atoms] system of every atom.
        volume: [n_systems] Å³, that which the stress refers to.
        pressure: [n_systems] external pressure, eV/Å³.

    """
    moves = systems.cell_moves[:, None, None]
    eye = torch.eye(3, dtype=stress.dtype, device=stress.device)
    virial = torch.where(moves, -volume[:, None, None] * (stress + pressure[:, None, None] * eye), 0.0)
    inverse_transposed = torch.linalg.inv(at.deformation).transpose(1, 2)
    cell_forces = log_gradient(systems.log_deformation, virial @ inverse_transposed)
    return GeneralisedForces(
        torch.einsum("ni,nij->nj", forces, at.deformation[system_idx]),
        torch.where(moves, cell_forces, 0.0) / systems.n_atoms[:, None, None],
    )


def displace(
    systems: DeformedSystems,
    log_deformation: Tensor,
    displacements: Tensor,
    fixed: Tensor,
    system_idx: Tensor,
) -> Tensor:
    """New positions ``q`` [n_atoms, 3] after ``displacements`` [n_atoms, 3], at the new ``log_deformation``.

    A fixed coordinate follows the cell and does not move beyond that, so the Cartesian part of the
    displacement along ``fixed`` [n_atoms, 3] is removed.
    """
    transposed = torch.linalg.matrix_exp(log_deformation).transpose(1, 2)[system_idx]
    back = torch.linalg.matrix_exp(-log_deformation).transpose(1, 2)[system_idx]
    cartesian = torch.einsum("ni,nij->nj", displacements, transposed)
    cartesian = torch.where(fixed, 0.0, cartesian)
    return systems.positions + torch.einsum("ni,nij->nj", cartesian, back)
