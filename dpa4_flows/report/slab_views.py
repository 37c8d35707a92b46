"""A slab with an adsorbate as one sees it from above and from the side.

All pictures have one scale and show the surface around the bound atom with its periodic images: how far these are apart
is the coverage. Colours are those of Jmol, radii covalent; what is farther away is paler.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from numpy.typing import NDArray
from pymatgen.core import Structure

from dpa4_flows.plots.drawing import Disc, Drawing, Polygon, Words, mixed

Array = NDArray[np.float64]

WIDTH, HEIGHT = 164, 150
"""Pixels of one view."""

_SCALE = 14.5  # pixels per Å
_STRIP = 18  # pixels below the atoms, for names of elements
_DEPTH = 6.0  # Å, beyond which atoms are not drawn
_PALEST, _TONES = 0.75, 12  # share of white at this depth, and steps to it
_CUT = 0.3  # Å before the bound atom, where the view from the side cuts the slab
_ABOVE = 1.1  # Å between what is uppermost and the frame
_SHRUNK = 0.9  # of the covalent radius, so that bonds are seen
_SMALLEST = 0.42  # Å, of atoms of the adsorbate
_TRACE = "#8896a4"


def views(structure: Structure, n_adsorbate: int) -> tuple[Drawing, Drawing]:
    """From above, with the cell around the adsorbate, and from the side, cut where the adsorbate is bound.

    Args:
        structure: slab whose third axis is its normal; the atoms of the adsorbate are the last, the bound one first.
        n_adsorbate: how many these are.
    """
    a, b, _ = structure.lattice.matrix
    numbers, places, own = _around(structure, n_adsorbate)
    surface = places[~own, 2].max()
    middle = np.array([WIDTH, HEIGHT - _STRIP]) / 2

    seen = own | (places[:, 2] > surface - _DEPTH)
    order = np.argsort(places[:, 2])
    order = order[seen[order]]
    depth = np.where(own, 0.0, surface - places[:, 2])
    flat = middle + places[:, :2] * [_SCALE, -_SCALE]
    corners = [-(a + b) / 2, (a - b) / 2, (a + b) / 2, (b - a) / 2, -(a + b) / 2]
    outline = [(float(x), float(y)) for x, y in (middle + np.array(corners)[:, :2] * [_SCALE, -_SCALE])]
    cell = Polygon(outline, stroke="#a8463b", dash=4)
    above = [*_discs(numbers, flat, own, depth, order), cell, *_strip(_key(numbers[order]))]

    seen = (places[:, 1] > -_CUT) & (places[:, 1] < _DEPTH) | own & (np.hypot(*places[:, :2].T) < _DEPTH / 2)
    order = np.argsort(-places[:, 1])
    order = order[seen[order]]
    top = places[seen, 2].max() + _ABOVE
    upright = np.column_stack([middle[0] + places[:, 0] * _SCALE, (top - places[:, 2]) * _SCALE])
    bar = Polygon([(WIDTH - 8 - 2 * _SCALE, HEIGHT - 7), (WIDTH - 8, HEIGHT - 7)], width=2)
    words = Words(WIDTH - 12 - 2 * _SCALE, HEIGHT - 4, "2 Å", 10, "end")
    beside = [*_discs(numbers, upright, own, np.maximum(places[:, 1], 0), order), *_strip([bar, words])]
    return Drawing(WIDTH, HEIGHT, above, "from above"), Drawing(WIDTH, HEIGHT, beside, "from the side")


def _around(structure: Structure, n_adsorbate: int) -> tuple[NDArray[np.int64], Array, NDArray[np.bool_]]:
    """Atomic numbers, places [n, 3] from the bound atom, and whether it is of an adsorbate, of all atoms in a frame."""
    a, b, _ = structure.lattice.matrix
    own = np.arange(len(structure)) >= len(structure) - n_adsorbate
    reach = np.array([WIDTH, HEIGHT]) / 2 / _SCALE + 1.5
    reach[1] = max(reach[1], _DEPTH)
    times = [int(np.ceil(2 * np.linalg.norm(reach) / np.linalg.norm(row))) for row in (a, b)]
    shifts = np.array([i * a + j * b for i, j in itertools.product(*(range(-n, n + 1) for n in times))])
    places = (structure.cart_coords - structure.cart_coords[-n_adsorbate])[None] + shifts[:, None]
    places = places.reshape(-1, 3)
    inside = (np.abs(places[:, :2]) < reach).all(axis=1)
    numbers = np.tile(structure.atomic_numbers, len(shifts))
    return numbers[inside], places[inside], np.tile(own, len(shifts))[inside]


def _discs(
    numbers: NDArray[np.int64], flat: Array, own: NDArray[np.bool_], depth: Array, order: Sequence[int]
) -> list[Disc]:
    """The farthest first, without those that others hide."""
    found: list[Disc] = []
    for i in order:
        radius = _SHRUNK * float(covalent_radii[numbers[i]])
        radius = _SCALE * (max(radius, _SMALLEST) if own[i] else radius)
        pale = _PALEST * round(min(max(float(depth[i]), 0.0) / _DEPTH, 1.0) * _TONES) / _TONES
        x, y = (float(value) for value in flat[i])
        if -radius < x < WIDTH + radius and -radius < y < HEIGHT - _STRIP + radius:
            found.append(Disc(x, y, radius, mixed(jmol_colors[numbers[i]], pale), 1.5 if own[i] else 0.0))
    return [disc for k, disc in enumerate(found) if not any(near.hides(disc) for near in found[k + 1 :])]


def _strip(shapes: Sequence[Polygon | Disc | Words]) -> list[Polygon | Disc | Words]:
    """What stands below the atoms."""
    top, bottom = HEIGHT - _STRIP, HEIGHT + 2
    corners = [(-2, top), (WIDTH + 2, top), (WIDTH + 2, bottom), (-2, bottom)]
    return [Polygon(corners, "#ffffff", _TRACE, 0.7), *shapes]


def _key(numbers: NDArray[np.int64]) -> list[Disc | Words]:
    """Names of the elements, the heaviest first."""
    found: list[Disc | Words] = []
    for i, number in enumerate(sorted(set(numbers.tolist()), reverse=True)):
        x = 9.0 + 32 * i
        found += [
            Disc(x, HEIGHT - 9, 5, mixed(jmol_colors[number], 0.0)),
            Words(x + 8, HEIGHT - 5, chemical_symbols[number], 10.5),
        ]
    return found
