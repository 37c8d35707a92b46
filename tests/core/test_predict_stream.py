"""Predictions of a stream: what `predict` gives, while the structures are read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from dpa4_core import predict, predict_stream
from dpa4_core.errors import DPA4Error
from dpa4_core.testing import MorsePotential

CRYSTALS = [bulk("Cu", a=3.4 + 0.02 * i, cubic=bool(i % 3)) for i in range(30)]


def test_a_stream_gives_what_the_list_gives_in_the_same_order() -> None:
    expected = predict(CRYSTALS, MorsePotential())
    found = list(predict_stream(enumerate(CRYSTALS), MorsePotential(), max_atoms_per_batch=10))
    assert [key for key, _ in found] == list(range(30))
    np.testing.assert_allclose([p.energy for _, p in found], [p.energy for p in expected], atol=1e-10)


@pytest.mark.parametrize(("window", "ahead"), [(3, 3), (None, 4 * 8 + 4)])
def test_no_more_than_a_window_is_read_ahead(window: int | None, ahead: int) -> None:
    read = 0

    def items() -> Iterator[tuple[int, Atoms]]:
        nonlocal read
        for i, atoms in enumerate(CRYSTALS):
            read += 1
            yield i, atoms

    results = predict_stream(items(), MorsePotential(), window=window, max_atoms_per_batch=8)
    assert read == 0
    for done, _ in enumerate(results):
        assert read <= done + ahead
    assert read == 30


def test_what_is_no_structure_fails_alone() -> None:
    found = dict(predict_stream([("a", CRYSTALS[0]), ("b", 7), ("c", Atoms())], MorsePotential()))
    assert found["a"].error is None and "int is not a structure" in str(found["b"].error) and found["c"].error


def test_options_are_refused_before_anything_is_read() -> None:
    unread: Iterator[tuple[int, Atoms]] = iter(enumerate(CRYSTALS))
    with pytest.raises(DPA4Error, match="window"):
        predict_stream(unread, MorsePotential(), window=0)
    with pytest.raises(DPA4Error, match="max_atoms_per_batch"):
        predict_stream(unread, MorsePotential(), max_atoms_per_batch=0)
    assert next(unread)[0] == 0
