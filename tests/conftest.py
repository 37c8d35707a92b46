"""Shared fixtures. No test downloads, but for those that ask for the DPA4-Neo weights.

What takes seconds to import is imported by the fixtures: the process that only hands out tests has no need of it, and
the others wait for that one.
"""

import os

import pytest

os.environ["COLUMNS"] = (
    "200"  # the console of the command takes its width when it is imported, by whichever test is first
)


@pytest.fixture(scope="session", autouse=True)
def _process():
    import torch
    from pymatgen.symmetry.groups import SpaceGroup

    torch.set_num_threads(1)  # the tests' tensors are tiny: more threads only wait for each other
    kept = SpaceGroup("Fm-3m")  # pymatgen takes 0.4 s for its operations, and forgets them when nobody holds them
    yield
    del kept


@pytest.fixture(autouse=True)
def _seed() -> None:
    import numpy as np
    import torch

    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session")
def neo_path():
    """Weights of DPA4-Neo, fetched once; without network the test is skipped and says so."""
    from dpa4_core.errors import DPA4Error
    from dpa4_core.model.registry import fetch

    try:
        return fetch("dpa4-neo")
    except DPA4Error as error:
        pytest.skip(f"DPA4-Neo weights are out of reach: {error}")
