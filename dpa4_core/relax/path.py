"""A path between two structures to start a band with: atoms matched, interpolated, and kept apart.

Straight lines lead atoms through each other. On a path of the image dependent pair potential the distances between
atoms, rather than their positions, change evenly from end to end (S. Smidstrup, A. Pedersen, K. Stokbro, H. Jónsson,
J. Chem. Phys. 140, 214106 (2014)).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase.geometry import find_mic, get_distances
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import StructureError, System, from_system, to_system
from dpa4_core.relax.chain import Chain, Coupling
from dpa4_core.relax.fire import fire_init, fire_step
from dpa4_core.relax.method import Bands, Point, Systems
from dpa4_core.relax.preconditioner import Preconditioner

SAME_CELL = 0.02
"""Å; lattice vectors that differ by less are rounding of files."""

PAIRS = 5.0
"""Å, on any of the images, within which the distance of two atoms is interpolated; its weight falls as r⁻⁴."""
CLOSEST = 0.5
"""Å, below which the weight of a pair grows no further."""

IDPP_FMAX, IDPP_STEPS, IDPP_STEP, IDPP_SPRING = 0.05, 200, 0.3, 1.0
"""As in `BandOptions`, of a potential in units of its own."""


def band_path(start: Any, end: Any, n_images: int = 5, *, in_order: bool = False) -> list[Any]:
    """Structures from ``start`` to ``end``, with ``n_images`` between them, for a `Band`.

    Args:
        start: ase.Atoms, pymatgen Structure or Molecule; all images are of its type.
        end: with the same atoms in the same cell.
        n_images: between the ends.
        in_order: whether each atom goes to where the one of its place is in ``end``; else atoms are matched, see
            `matched_end`.

    Raises:
        StructureError: other atoms or another cell, or fixed atoms that are elsewhere at the end.

    """
    if n_images < 1:
        raise StructureError(f"a band has at least one image between its ends, not {n_images}")
    first, last = to_system(start), to_system(end if in_order else matched_end(start, end))
    if problem := _unlike(first, last) or _in_another_order(first, last) or _moved(first, last):
        raise StructureError(problem)
    weights = np.linspace(0, 1, n_images + 2)
    line = [
        dataclasses.replace(first, positions=(1 - weight) * first.positions + weight * last.positions)
        for weight in weights
    ]
    return [from_system(start, system) for system in _idpp(line, weights)]


def matched_end(start: Any, end: Any) -> Any:
    """``end`` with the atoms in the order of ``start``: for every element so that all ways together are shortest,
    across the borders of the cell where that is shorter.

    Raises:
        StructureError: other atoms or another cell, or fixed atoms that are elsewhere at the end.

    """
    first = to_system(start)
    return from_system(start, _matched(first, to_system(end)))


def continuous(images: Sequence[System]) -> tuple[System, ...]:
    """The images of a band so that no atom jumps across the cell from one to the next.

    Raises:
        StructureError: they do not belong to one band.

    """
    out = [images[0]]
    for place, image in enumerate(images[1:], start=1):
        if problem := _unlike(images[0], image) or _in_another_order(images[0], image):
            raise StructureError(f"image {place} of the band does not belong to the first one: {problem}")
        steps = _shortest(image.positions - out[-1].positions, images[0])
        out.append(dataclasses.replace(images[0], positions=out[-1].positions + steps))
    if (moved := _moved(out[0], out[-1])) is not None:
        raise StructureError(moved)
    return tuple(out)


def _in_another_order(first: System, last: System) -> str | None:
    return "its atoms are in another order" if (first.numbers != last.numbers).any() else None


def _matched(first: System, last: System) -> System:
    """The second with the atoms, the order and the cell of the first."""
    if problem := _unlike(first, last):
        raise StructureError(f"the ends of the path do not belong together: {problem}")
    positions = np.empty_like(first.positions)
    cell = first.cell if first.periodic else None
    if first.pbc.all():  # the same cell may lie differently in space
        last = dataclasses.replace(last, positions=last.positions @ np.linalg.solve(last.cell, first.cell))
    for number in np.unique(first.numbers):
        ours, theirs = np.flatnonzero(first.numbers == number), np.flatnonzero(last.numbers == number)
        # a power below 1, where squares are usual: one atom that goes far is likelier than several that move up
        vectors, lengths = get_distances(first.positions[ours], last.positions[theirs], cell=cell, pbc=first.pbc)
        one, other = linear_sum_assignment(lengths**0.9)
        positions[ours[one]] = first.positions[ours[one]] + vectors[one, other]
    last = dataclasses.replace(first, positions=positions)
    if (moved := _moved(first, last)) is not None:
        raise StructureError(moved)
    return last


def _unlike(first: System, other: System) -> str | None:
    if sorted(first.numbers.tolist()) != sorted(other.numbers.tolist()):
        return "they have different atoms"
    if (first.pbc != other.pbc).any():
        return "they repeat along different axes"
    if not _same_cell(first, other):
        return "their cells differ; the cell stays along a path, so relax both ends in one and the same"
    return None


def _same_cell(first: System, other: System) -> bool:
    apart = np.abs(first.cell - other.cell)[first.pbc].max(initial=0.0)
    if apart > SAME_CELL and first.pbc.all():  # or one that lies differently in space
        lengths, sides = first.cell @ first.cell.T, other.cell @ other.cell.T
        longest = np.sqrt(np.outer(lengths.diagonal(), lengths.diagonal()))
        same_hand = np.linalg.det(first.cell) * np.linalg.det(other.cell) > 0
        return bool(same_hand and (np.abs(lengths - sides) < 2 * SAME_CELL * np.sqrt(longest)).all())
    return bool(apart <= SAME_CELL)


def _moved(first: System, last: System) -> str | None:
    away = np.linalg.norm(np.where(first.fixed, last.positions - first.positions, 0.0), axis=1).max()
    if away < SAME_CELL:
        return None
    return f"a fixed atom is {away:.2g} Å elsewhere at the other end of the path; fix it where it is in both"


def _shortest(vectors: NDArray[np.float64], system: System) -> NDArray[np.float64]:
    return np.asarray(find_mic(vectors, system.cell, system.pbc)[0]) if system.periodic else vectors


def _idpp(line: list[System], weights: NDArray[np.float64]) -> list[System]:
    """The path on which distances change as evenly as they can."""
    first, moving = line[0], line[1:-1]
    n_atoms, n = first.n_atoms, len(moving)
    src, dst, shift = _pairs(line)
    ends = [_lengths(torch.from_numpy(system.positions), src, dst, shift) for system in (first, line[-1])]
    inner = torch.from_numpy(weights[1:-1])[:, None]
    targets = (1 - inner) * ends[0] + inner * ends[1]  # [n_images, n_pairs]
    fixed = torch.from_numpy(np.tile(first.fixed, (n, 1)))
    image = torch.arange(n).repeat_interleave(n_atoms)
    band = Coupling([Chain(tuple(line), (0.0, 0.0), IDPP_SPRING, climb=False)], [n_atoms] * n, torch.device("cpu"))
    positions = torch.from_numpy(np.concatenate([system.positions for system in moving]))
    nothing = torch.zeros(n, 3, 3, dtype=torch.float64)
    longest = torch.full((n,), IDPP_STEP, dtype=torch.float64)
    bands = Bands(torch.zeros(n, dtype=torch.int64), torch.ones(n, dtype=torch.bool))
    systems = Systems(image, torch.full_like(longest, n_atoms), longest, _no_springs, bands)
    state = fire_init(n_atoms * n, n, positions.device)
    for _ in range(IDPP_STEPS):
        energy, forces = _of_distances(positions.view(n, n_atoms, 3), targets, src, dst, shift)
        forces = torch.where(fixed, 0.0, forces.reshape(-1, 3))
        pulled = band.forces(positions, forces, energy, fixed, torch.zeros(n, dtype=torch.int64))
        if float(pulled.residual.square().sum(1).amax().sqrt()) < IDPP_FMAX:
            break
        step = fire_step(state, Point(positions, nothing, pulled.forces, nothing, energy), systems)
        state, positions = step.state, positions + step.displacements
    found = positions.view(n, n_atoms, 3).numpy()
    return [first, *(dataclasses.replace(first, positions=one.copy()) for one in found), line[-1]]


def _pairs(line: Sequence[System]) -> tuple[Tensor, Tensor, Tensor]:
    """Atoms [n_pairs] and Cartesian shifts [n_pairs, 3] of all pairs that come close on some image, each once."""
    graph = build_graph(list(line), PAIRS, torch.device("cpu"))
    n_atoms = line[0].n_atoms
    edges = np.column_stack([graph.src % n_atoms, graph.dst % n_atoms, graph.shift]).astype(np.int64)
    edges = np.unique(edges, axis=0)
    once = edges[(edges[:, 0] < edges[:, 1])]  # an atom and its own image keep their distance
    src, dst = torch.from_numpy(once[:, 0].copy()), torch.from_numpy(once[:, 1].copy())
    return src, dst, torch.from_numpy(once[:, 2:].astype(np.float64) @ line[0].cell)


def _lengths(positions: Tensor, src: Tensor, dst: Tensor, shift: Tensor) -> Tensor:
    """Distances [..., n_pairs] at ``positions`` [..., n_atoms, 3]."""
    vectors = positions[..., src, :] + shift - positions[..., dst, :]
    return torch.linalg.vector_norm(vectors, dim=-1)


def _of_distances(positions: Tensor, targets: Tensor, src: Tensor, dst: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """The pair potential [n_images] and minus its gradient, like ``positions`` [n_images, n_atoms, 3]."""
    at = positions.detach().requires_grad_()
    with torch.enable_grad():
        lengths = _lengths(at, src, dst, shift)
        energy = ((lengths - targets) ** 2 / lengths.clamp(min=CLOSEST) ** 4).sum(1)
        (gradient,) = torch.autograd.grad(energy.sum(), at)
    return energy.detach(), -gradient


def _no_springs() -> Preconditioner:
    raise AssertionError("FIRE asks for no springs")
