"""Shared fixtures. Threads are limited so that runs are repeatable on small machines."""

import numpy as np
import pytest
import torch

from dpa4_core.errors import DPA4Error
from dpa4_core.model.registry import fetch

torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session")
def neo_path():
    """Weights of DPA4-Neo, fetched once; without network the test is skipped and says so."""
    try:
        return fetch("dpa4-neo")
    except DPA4Error as error:
        pytest.skip(f"DPA4-Neo weights are out of reach: {error}")
