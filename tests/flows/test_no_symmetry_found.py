"""A crystal in which spglib finds nothing gets a sentence of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pymatgen.core import Lattice, Structure

from dpa4_core.data.structures import StructureError
from dpa4_core.testing import MorsePotential
from dpa4_flows.analysis.defects import host_cell
from dpa4_flows.analysis.facets import operations, standard_cells
from dpa4_flows.analysis.migration import hop_kinds, primitive_crystal
from dpa4_flows.analysis.segregation import surface_atoms
from dpa4_flows.compute.driver import compute
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.migration import Migration

ON_ONE_ANOTHER = Structure(Lattice.cubic(4), ["Li", "Li", "O"], [[0, 0, 0], [0, 0, 0.0005], [0.5, 0.5, 0.5]])
"""Two atoms nearer than the tolerance, for which spglib finds no space group."""


@pytest.mark.parametrize(
    "ask",
    [
        operations,
        standard_cells,
        primitive_crystal,
        surface_atoms,
        lambda crystal: hop_kinds(crystal, "Li", 3.0),
        lambda crystal: host_cell(crystal, 8.0, 300),
    ],
)
def test_a_crystal_without_a_space_group_is_refused(
    ask: Callable[[Structure], object], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StructureError, match=r"^no space group of Li2 O1 found within 0\.01 Å: do atoms lie"):
        ask(ON_ONE_ANOTHER)
    assert capfd.readouterr() == ("", "")


def test_a_document_of_a_crystal_without_a_space_group_says_so() -> None:
    model = ModelRef(f"{MorsePotential.__module__}:MorsePotential")
    ((_, document),) = compute([("x", Ask(Migration(), Crystal(ON_ONE_ANOTHER)))], model)
    assert document.error is not None and document.error.startswith("no space group of Li2 O1 found")
