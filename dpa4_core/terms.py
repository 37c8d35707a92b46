"""A potential and what is added to it: energies, forces and stresses of both are summed here and nowhere else."""

from __future__ import annotations

import dataclasses
import re
from typing import Protocol

import torch

from dpa4_core.data.graph import Graph
from dpa4_core.digests import digest
from dpa4_core.dispersion.d3 import D3, DAMPINGS, damping_of, identity_of
from dpa4_core.errors import DPA4Error
from dpa4_core.model.info import ModelInfo
from dpa4_core.potential import Members, Output, PotentialLike
from dpa4_core.shares import Shareable


class Term(Protocol):
    """Something that is added to a potential. It finds its neighbours itself and leaves the edges of a graph alone."""

    elements: frozenset[int]

    def compute(self, graph: Graph) -> Output:
        """Energies, forces, virial and stress of every system in ``graph``."""
        ...


class SumPotential(Shareable[Output]):
    """A potential and a term as one; of a committee every member gets the term, so that deviations stay.

    Attributes:
        base: the potential.
        term: what is added.
        info: identity card of both.
        members: of a committee, else nothing.
    """

    def __init__(self, base: PotentialLike, term: Term, info: ModelInfo) -> None:
        self.base, self.term, self.info = base, term, info
        self.cutoff, self.device = base.cutoff, base.device
        self.dtype = getattr(base, "dtype", torch.float64)
        self.elements = base.elements & term.elements
        self.members = getattr(base, "members", ())
        self.shared = getattr(base, "shared", False)

    def compute_alone(self, graph: Graph) -> Output:
        """The sums of energies, forces, virial and stress."""
        one, other = self.base.compute(graph), self.term.compute(graph)
        total = Output(*(a + b for a, b in zip(one[:5], other[:5], strict=True)))  # type: ignore[arg-type]
        if one.members is None:
            return total
        added = (values[:, None] for values in (other.energy, other.forces, other.stress))
        return total._replace(members=Members(*(a + b for a, b in zip(one.members, added, strict=True))))

    def __repr__(self) -> str:
        return f"{self.base!r} + {self.term!r}"


def with_dispersion(potential: PotentialLike, name: str) -> SumPotential:
    """``potential`` with D3(BJ) added.

    Args:
        potential: one that has no dispersion yet.
        name: functional whose damping it is, a key of `DAMPINGS`.

    Raises:
        DPA4Error: an unknown name, one of another functional, or a potential that has dispersion already.
    """
    info = getattr(potential, "info", None)
    known = info if isinstance(info, ModelInfo) else ModelInfo(type(potential).__name__)
    return SumPotential(potential, D3(name, potential.device), card_with_dispersion(known, name))


def checksum_with_dispersion(sha256: str, name: str) -> str:
    """Checksum that stands for a model of checksum ``sha256`` with dispersion; none of a model that has none."""
    return digest(sha256, identity_of(name)) if sha256 else ""


def card_with_dispersion(info: ModelInfo, name: str) -> ModelInfo:
    """The identity card of a model with dispersion: another checksum, and so other keys, libraries and frames.

    Raises:
        DPA4Error: see `with_dispersion`.
    """
    damping = damping_of(name)
    if info.dispersion:
        raise DPA4Error(f"{info.name} has dispersion ({info.dispersion}) already; leave the second one out")
    functionals = {one.functional for one in DAMPINGS.values()}
    stated = functionals.intersection(re.split(r"[^A-Za-z0-9]+", info.level_of_theory))
    if stated and damping.functional not in stated:
        fitting = ", ".join(key for key, one in DAMPINGS.items() if one.functional in stated)
        raise DPA4Error(
            f"{name} was fitted to {damping.functional}, and {info.name} is {info.level_of_theory}; take {fitting}"
        )
    return dataclasses.replace(
        info,
        name=f"{info.name} + {name}",
        sha256=checksum_with_dispersion(info.sha256, name),
        level_of_theory=f"{info.level_of_theory}, with D3(BJ)",
        dispersion=name,
    )
