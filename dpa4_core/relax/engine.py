"""Relaxation of any number of structures: a list that comes back in order, or a stream without end."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

from numpy.typing import ArrayLike

from dpa4_core.data.batching import check_budget
from dpa4_core.data.structures import MIN_DISTANCE_RATIO, StructureError, structure_list
from dpa4_core.errors import DPA4Error
from dpa4_core.loaded import as_potential
from dpa4_core.potential import PotentialLike
from dpa4_core.progress import structure_bar
from dpa4_core.relax.optimizer import OptimizerName
from dpa4_core.relax.options import RelaxOptions
from dpa4_core.relax.requests import Relax
from dpa4_core.relax.results import RelaxResult
from dpa4_core.relax.stream import InFlight, stream

Key = TypeVar("Key", bound=Hashable)


def relax(
    structures: Any,
    potential: PotentialLike | str | Path,
    *,
    fmax: float = 0.02,
    max_steps: int = 500,
    relax_cell: bool = True,
    pressure_gpa: float = 0.0,
    max_volume_change: float = 5.0,
    max_atoms_per_batch: int | None = None,
    min_distance_ratio: float = MIN_DISTANCE_RATIO,
    strict: bool = False,
    progress: bool = False,
    on_result: Callable[[int, RelaxResult], None] | None = None,
    keep_trajectory: bool = False,
    optimizer: OptimizerName = "auto",
    max_step: float | None = None,
    cell: str | ArrayLike = "full",
    keep_symmetry: bool = False,
    symprec: float = 0.01,
    check_minimum: bool = True,
) -> list[RelaxResult]:
    """Relax positions and cells, many structures in each force call.

    Structures of similar size share a batch; one that is done leaves it and the next one enters. Fixed atoms (ASE
    constraints, selective dynamics) stay where they are, in a moving cell at their fractional coordinates. Without
    periodicity only positions relax.

    The cell of a slab or chain is strained within the span of its periodic vectors; those along open axes stay as they
    are. ``max_volume_change`` is then a change of area or length, and a pressure is an error.

    Args:
        structures: any mix of ase.Atoms and pymatgen Structure and Molecule, or a single one.
        potential: a potential, or the name or path of one (loaded in float32 on the CPU).
        fmax: eV/Å; converged when all forces on atoms and on rows of the cell are below.
        max_steps: optimiser steps per structure.
        relax_cell: whether cells of periodic structures relax.
        pressure_gpa: external pressure in GPa.
        max_volume_change: factor by which a volume may grow or shrink before the structure is given up.
        max_atoms_per_batch: atoms in flight, by default what suits the device; a larger structure is relaxed
            alone. Halved when memory runs out.
        min_distance_ratio: atoms closer than this fraction of the sum of covalent radii are an error, before
            and after; 0 allows everything.
        strict: raise on the first failed structure.
        progress: show a progress bar (on stderr).
        on_result: called with index and result as soon as a structure is done, in the order in which they
            finish.
        keep_trajectory: keep energy, fmax and volume of every force call.
        optimizer: "auto", L-BFGS that hands over to FIRE where it goes uphill repeatedly: a quarter of the force
            calls of FIRE. "fire" makes the steps of ASE's ``FIRE`` on a ``FrechetCellFilter``; "lbfgs" never hands
            over.
        max_step: Å, the longest displacement of an atom in a step ("fire": of all atoms together); by default 0.2.
        cell: what of the cell relaxes: "full" (but lattice vectors across a gap of more than 8 Å, whose vacuum would
            close), "all" (those too), "fixed" (as ``relax_cell=False``), "volume" (is constant), "shape" (is
            constant), or a mask of the components of the strain that may change, 6 (xx, yy, zz, yz, xz, xy) or 3 × 3.
        keep_symmetry: keep the space group of the start, made exact first; crystals without fixed atoms.
        symprec: Å within which the symmetry of the start holds.
        check_minimum: look for a way down from where forces vanish, and go it; with ``keep_symmetry`` say only that
            there is one. Costs up to sixteen force calls for each search; see `RelaxResult.minimum`.

    Returns:
        One result per structure, in the order of ``structures``.

    Raises:
        StructureError: a structure failed and ``strict`` is set, or ``structures`` is a path. Running out of steps
            is no failure.
        DPA4Error: an option that makes no sense, no such model.

    """
    options = RelaxOptions(
        fmax=fmax,
        max_steps=max_steps,
        relax_cell=relax_cell,
        pressure_gpa=pressure_gpa,
        max_volume_change=max_volume_change,
        min_distance_ratio=min_distance_ratio,
        keep_trajectory=keep_trajectory,
        optimizer=optimizer,
        max_step=max_step,
        cell=cell,
        keep_symmetry=keep_symmetry,
        symprec=symprec,
        check_minimum=check_minimum,
    )
    check_budget(max_atoms_per_batch)
    everything = structure_list(structures)
    results: list[RelaxResult | None] = [None] * len(everything)
    finished = stream(
        ((index, Relax(structure, options)) for index, structure in enumerate(everything)),
        InFlight(as_potential(potential), max_atoms_per_batch),
        window=max(1, len(everything)),
    )
    with structure_bar("relax", len(everything), shown=progress) as advance:
        for index, result in cast("Iterator[tuple[int, RelaxResult]]", finished):
            if strict and result.error:
                raise StructureError(f"structure {index}: {result.error}")
            results[index] = result
            advance(1)
            if on_result is not None:
                on_result(index, result)
    return cast("list[RelaxResult]", results)


def relax_stream(
    items: Iterable[tuple[Key, Any]],
    potential: PotentialLike | str | Path,
    *,
    window: int | None = None,
    fmax: float = 0.02,
    max_steps: int = 500,
    relax_cell: bool = True,
    pressure_gpa: float = 0.0,
    max_volume_change: float = 5.0,
    max_atoms_per_batch: int | None = None,
    min_distance_ratio: float = MIN_DISTANCE_RATIO,
    keep_trajectory: bool = False,
    optimizer: OptimizerName = "auto",
    max_step: float | None = None,
    cell: str | ArrayLike = "full",
    keep_symmetry: bool = False,
    symprec: float = 0.01,
    check_minimum: bool = True,
) -> Iterator[tuple[Key, RelaxResult]]:
    """Relax structures while they are read, in bounded memory: a million of them, or a stream without end.

    Structures are read as they are needed and results come as they finish, in any order. At most a window of
    structures waits and a batch of them is in flight. A structure that cannot be relaxed comes out with ``.error``.

    Args:
        items: pairs of a key, which comes out with the result, and a structure.
        potential: a potential, or the name or path of one.
        window: structures that are read ahead and sorted by size, by default what fills four batches.
        fmax, max_steps, relax_cell, pressure_gpa, max_volume_change: see `relax`.
        max_atoms_per_batch, min_distance_ratio, keep_trajectory, optimizer, max_step: see `relax`.
        cell, keep_symmetry, symprec, check_minimum: see `relax`.

    Returns:
        An iterator of pairs of key and result, one for each item; close it to stop early.

    Raises:
        DPA4Error: an option that makes no sense, no such model; at once, before anything is read.

    """
    options = RelaxOptions(
        fmax=fmax,
        max_steps=max_steps,
        relax_cell=relax_cell,
        pressure_gpa=pressure_gpa,
        max_volume_change=max_volume_change,
        min_distance_ratio=min_distance_ratio,
        keep_trajectory=keep_trajectory,
        optimizer=optimizer,
        max_step=max_step,
        cell=cell,
        keep_symmetry=keep_symmetry,
        symprec=symprec,
        check_minimum=check_minimum,
    )
    check_budget(max_atoms_per_batch)
    if window is not None and not window >= 1:
        raise DPA4Error(f"window must be at least 1 structure, not {window}")
    requests = ((key, Relax(structure, options)) for key, structure in items)
    finished = stream(requests, InFlight(as_potential(potential), max_atoms_per_batch), window=window)
    return cast("Iterator[tuple[Key, RelaxResult]]", finished)
