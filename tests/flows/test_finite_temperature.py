"""Motion at a temperature, how far atoms go, and what a run says of a crystal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.finite_temperature import lindemann
from dpa4_flows.compute.driver import Counts, compute
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.at_rest import AtRest
from dpa4_flows.properties.finite_temperature import FiniteTemperature

COPPER = AseAtomsAdaptor.get_structure(bulk("Cu", a=3.7))
SHORT = FiniteTemperature(time_ps=1.0, equilibration_ps=0.2, timestep_fs=6.0, min_length=4.0, temperature_k=200.0)
TOY = ModelRef("toy_potentials:OMatMorse", dtype="float64")


def test_the_ratio_is_that_of_displacements_whatever_the_crystal_does_as_a_whole() -> None:
    start = COPPER * (2, 2, 2)
    rng, width, spacing = np.random.default_rng(0), 0.05, 3.7 / 2**0.5
    drift = np.linspace(0, 5, 200)[:, None, None] * np.ones(3)
    noise = width * rng.standard_normal((200, len(start), 3))
    noise -= noise.mean(axis=1, keepdims=True)
    found = lindemann(start, start.cart_coords + noise + drift)
    assert found.ratio == pytest.approx(width * 3**0.5 * (7 / 8) ** 0.5 / spacing, rel=0.03)
    assert found.growth == pytest.approx(1.0, abs=0.1) and found.farthest < 0.1
    noise[100:] *= 2
    assert lindemann(start, start.cart_coords + noise).growth == pytest.approx(2.0, rel=0.1)
    hop = np.zeros((200, len(start), 3))
    hop[50:, 0] = [2.0, 0, 0]
    assert lindemann(start, start.cart_coords + hop).farthest > 0.5


def test_a_crystal_is_stable_when_it_is_cold_and_crystals_share_their_steps() -> None:
    silver = Structure(COPPER.lattice.scale(COPPER.volume * 1.4), ["Ag"], [[0, 0, 0]])
    counts, crystals = Counts(), {"Cu": COPPER, "Ag": silver}
    asks: list[Any] = [(name, Ask(AtRest(SHORT), Crystal(one, name))) for name, one in crystals.items()]
    found = dict(compute(asks, TOY, counts=counts))
    assert all(one.error is None and one.verdict == "stable" for one in found.values())
    assert found["Cu"].lindemann == pytest.approx(found["Cu"].by_element["Cu"])
    assert 0.01 < found["Cu"].lindemann < 0.1 and found["Cu"].mean_temperature_k == pytest.approx(200, rel=0.35)
    assert found["Cu"].n_steps == 200 == sum(SHORT._steps)
    assert SHORT.cost(Crystal(COPPER)) == (201, 201 * found["Cu"].n_atoms)


def test_what_flies_apart_or_is_too_short_has_no_verdict() -> None:
    ((_, hot),) = compute([(0, Ask(replace(SHORT, temperature_k=1e5), Crystal(COPPER)))], TOY)
    assert hot.error_code in ("fell_apart", "too_hot") or hot.verdict == "unstable"
    with pytest.raises(DPA4Error, match="shorter than 1 ps"):
        replace(SHORT, time_ps=0.5).check()
    ((_, large),) = compute([(0, Ask(replace(SHORT, max_atoms=3), Crystal(COPPER)))], TOY)
    assert large.error_code == "no_supercell"
