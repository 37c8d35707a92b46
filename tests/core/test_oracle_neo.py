"""The published DPA4-Neo weights on 19 structures against the reference."""

import numpy as np
import pytest
from oracle_data import ORACLE, assert_matches, names, system

from dpa4_core.data.neighbours import build_graph
from dpa4_core.loaded import load

pytestmark = pytest.mark.network


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_neo_structures(neo_path, dtype):
    with np.load(ORACLE / "neo_structures.npz") as archive:
        reference = {key: archive[key] for key in archive}
    potential = load(neo_path, dtype=dtype)
    assert potential.info.name == "dpa4-neo"
    assert len(names(reference)) == 19
    for name in names(reference):
        output = potential.compute(build_graph([system(reference, name)], potential.cutoff))
        assert_matches(output, reference, name, dtype)
