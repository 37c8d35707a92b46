"""Potentials that the tests reach by import path, also in other processes."""

from __future__ import annotations

import time

from ase.calculators.lj import LennardJones

from dpa4_core.data.graph import Graph
from dpa4_core.model.info import ModelInfo
from dpa4_core.potential import Output
from dpa4_core.testing import MorsePotential


class SlowMorse(MorsePotential):
    """Takes 30 ms for a force call, so that a test can kill a process in the middle."""

    def compute(self, graph: Graph) -> Output:
        time.sleep(0.03)
        return super().compute(graph)


class ForbiddenMorse(MorsePotential):
    """Must not be asked."""

    def compute(self, graph: Graph) -> Output:
        raise AssertionError("everything should have been found in the results table")


def lennard_jones() -> LennardJones:
    return LennardJones(sigma=2.3, epsilon=0.4, rc=6.0, smooth=True)


def number() -> int:
    return 42


class MPtrjMorse(MorsePotential):
    """Says that it is on the energy scale of the Materials Project."""

    info = ModelInfo(level_of_theory="PBE, PBE+U (Materials Project, MPtrj)", corrections="MP2020")


class OMatMorse(MorsePotential):
    """Says that it is on the energy scale of OMat24."""

    info = ModelInfo(level_of_theory="PBE, PBE+U, PBE_54", corrections="OMat24")


class ShortOMatMorse(OMatMorse):
    """Bonds to the next neighbours only, so that molecular crystals of hydrogen do not collapse."""

    def __init__(self) -> None:
        super().__init__(cutoff=3.0, stiffness=3.0)


class WithoutCopper(MorsePotential):
    """Does not know copper."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = self.elements - {29}


class PlainMorse(MorsePotential):
    """Says that it was trained without +U."""

    info = ModelInfo(level_of_theory="PBE alone")
