"""Which wafers a film fits on: common superlattices of two planes, the strain of the film, and what the strain costs.

    for match in matches(film, wafers(), elastic_tensor_gpa=c_ij):
        print(match.substrate, match.film_plane, match.strain, match.area)

Superlattices are those of A. Zur and T. C. McGill, J. Appl. Phys. 55, 378 (1984), as pymatgen finds them: the smallest
common one of each pair of planes, the film strained to the wafer.
"""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from pymatgen.analysis.elasticity import Deformation, ElasticTensor
from pymatgen.analysis.interfaces.substrate_analyzer import SubstrateAnalyzer, SubstrateMatch
from pymatgen.core import Lattice, Structure
from pymatgen.core.surface import SlabGenerator

from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_flows.analysis.elasticity import ieee_rotation, standard_rotation
from dpa4_flows.analysis.facets import Miller, distinct_facets, facet_name, standard_cells

_FILE = Path(__file__).parents[1] / "data" / "substrates.toml"


@dataclass(frozen=True)
class Wafer:
    """A crystal on which films grow.

    Attributes:
        name: for people and campaign files.
        structure: crystal, in any cell.
        planes: in which it is cut, Miller indices of the conventional cell; empty for all low ones.
    """

    name: str
    structure: Structure
    planes: tuple[Miller, ...] = ()


@cache
def wafers() -> dict[str, Wafer]:
    """The wafers that come with the program, by name, as measured."""
    found = {}
    for name, row in tomllib.loads(_FILE.read_text(encoding="utf-8")).items():
        lattice = Lattice.from_parameters(*row["lattice"])
        structure = Structure.from_spacegroup(row["space_group"], lattice, row["species"], row["coordinates"])
        found[name] = Wafer(name, structure.get_primitive_structure(), tuple((h, k, l_) for h, k, l_ in row["planes"]))
    return found


@dataclass(frozen=True)
class Match:
    """A film on one plane of a wafer.

    Attributes:
        substrate: name of the wafer.
        substrate_plane, film_plane: that lie on each other, as ``111``.
        area: of the common superlattice of the planes of conventional cells, Å².
        strain: of von Mises, of the film, dimensionless.
        elastic_energy: of the strained film, eV/atom, free to move along its normal; None without a tensor.
    """

    substrate: str
    substrate_plane: str
    film_plane: str
    area: float
    strain: float
    elastic_energy: float | None


def matches(
    film: Structure,
    substrates: Iterable[Wafer],
    *,
    max_index: int = 1,
    max_area: float = 200.0,
    elastic_tensor_gpa: Sequence[Sequence[float]] | None = None,
) -> list[Match]:
    """All pairs of planes that fit, the least strained first.

    Args:
        film: relaxed crystal, the cell that ``elastic_tensor_gpa`` was fitted for.
        substrates: relaxed wafers.
        max_index: largest Miller index of the planes of the film, and of a wafer that names none.
        max_area: Å², of the common superlattice.
        elastic_tensor_gpa: [6, 6] of the film, GPa, as `elasticity.fit_elastic_tensor` orients that of this cell.
    """
    conventional, _ = standard_cells(film)
    tensor = None
    if elastic_tensor_gpa is not None:
        turn = standard_rotation(film) @ ieee_rotation(film).T
        tensor = ElasticTensor.from_voigt(np.array(elastic_tensor_gpa)).rotate(turn, tol=1e-2)
    planes = distinct_facets(conventional, max_index)
    analyzer = SubstrateAnalyzer(max_area=max_area)
    found = []
    for wafer in substrates:
        cell, _ = standard_cells(wafer.structure)
        cuts = wafer.planes or tuple(distinct_facets(cell, max_index))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of spglib's old interface, and of strains that a tensor is not meant for
            fits = list(
                analyzer.calculate(conventional, cell, film_millers=planes, substrate_millers=cuts, lowest=True)
            )
            costs = [None if tensor is None else _strain_energy(conventional, tensor, fit) for fit in fits]
        found += [
            Match(
                substrate=wafer.name,
                substrate_plane=facet_name(cell.lattice, fit.substrate_miller),
                film_plane=facet_name(conventional.lattice, fit.film_miller),
                area=float(fit.match_area),
                strain=float(fit.von_mises_strain),
                elastic_energy=cost,
            )
            for fit, cost in zip(fits, costs, strict=True)
        ]
    return sorted(found, key=lambda match: (round(match.strain, 6), round(match.area, 3), match.substrate))


def _strain_energy(film: Structure, tensor: ElasticTensor, fit: SubstrateMatch) -> float:
    """EV/atom. The planes are strained as the wafer wants, the film follows along its normal without stress.

    Args:
        film: conventional cell.
        tensor: in the axes of ``film``.
        fit: of a plane of it.
    """
    cuts = SlabGenerator(film, fit.film_miller, 20, 15, primitive=False)
    cut = cuts.get_slab().oriented_unit_cell.lattice.matrix
    # to the axes of the cut, in which pymatgen has the strain
    turn = np.linalg.solve(np.array(cuts.slab_scale_factor) @ film.lattice.matrix, cut).T
    stiffness = np.array(tensor.rotate(turn, tol=1e-2))
    strain = np.array(Deformation(fit.match_transformation).green_lagrange_strain)
    normal = np.cross(*fit.film_vectors)
    normal /= np.linalg.norm(normal)
    held = np.einsum("ijkl,kl,j->i", stiffness, strain, normal)
    answer = np.linalg.solve(np.einsum("ijkl,j,l->ik", stiffness, normal, normal), -held)
    strain = strain + (np.outer(normal, answer) + np.outer(answer, normal)) / 2
    density = 0.5 * np.einsum("ij,ijkl,kl", strain, stiffness, strain) / EV_PER_ANGSTROM3_TO_GPA
    return float(density * film.volume / len(film))
