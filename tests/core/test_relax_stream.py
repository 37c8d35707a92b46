"""Relaxation of streams: read as needed, full batches, bounded memory, nothing lost or overtaken for long."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from dpa4_core import DPA4Error, relax_stream
from dpa4_core.data.graph import Graph
from dpa4_core.potential import Output
from dpa4_core.relax import relax
from dpa4_core.testing import MorsePotential

MORSE = MorsePotential()
SIZES = (1, 2, 4, 8, 16)


class Recorder(MorsePotential):
    def __init__(self) -> None:
        super().__init__()
        self.atoms_per_call: list[int] = []

    def compute(self, graph: Graph) -> Output:
        self.atoms_per_call.append(graph.n_atoms)
        return super().compute(graph)


def crystal(seed: int) -> Atoms:
    """Magnesium with 1 to 16 atoms, distorted."""
    rng = np.random.default_rng(seed)
    size = SIZES[rng.integers(len(SIZES))]
    repeat = {1: (1, 1, 1), 2: (2, 1, 1), 4: (2, 2, 1), 8: (2, 2, 2), 16: (4, 2, 2)}[size]
    atoms = bulk("Mg", "fcc", a=4.5) * repeat
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
    return atoms


class Source:
    """An endless input that counts what was read."""

    def __init__(self, first: int = 0) -> None:
        self.n_read = 0
        self._structures: list[weakref.ref[Atoms]] = []
        self.first = first

    def __iter__(self) -> Iterator[tuple[str, Atoms]]:
        for seed in itertools.count(self.first):
            self.n_read += 1
            atoms = crystal(seed)
            self._structures.append(weakref.ref(atoms))
            yield f"mg-{seed}", atoms

    def n_alive(self) -> int:
        return sum(reference() is not None for reference in self._structures)


def test_stream_gives_the_results_of_the_list_under_the_keys_of_the_items() -> None:
    structures = [crystal(seed) for seed in range(20)]
    expected = relax(structures, MORSE, fmax=0.3)
    streamed = dict(relax_stream(zip("abcdefghijklmnopqrst", structures, strict=True), MORSE, fmax=0.3, window=3))
    assert sorted(streamed) == list("abcdefghijklmnopqrst")
    for key, result in zip("abcdefghijklmnopqrst", expected, strict=True):
        assert streamed[key].n_steps == result.n_steps
        assert streamed[key].energy == pytest.approx(result.energy, abs=1e-10)
        assert len(streamed[key].structure) == len(result.structure)


def test_an_endless_input_is_read_a_window_at_a_time() -> None:
    source = Source()
    results = relax_stream(source, MORSE, fmax=0.3, window=10, max_atoms_per_batch=32)
    assert source.n_read == 0  # nothing happens before the first result is asked for
    for n_done, (key, result) in enumerate(itertools.islice(results, 40), start=1):
        assert key.startswith("mg-") and result.converged
        assert source.n_read - n_done <= 10 + 32  # waiting, and in flight: at most 32 of one atom
    gc.collect()
    assert source.n_alive() <= 1 + 10 + 32
    results.close()


def test_batches_stay_full_across_windows() -> None:
    potential = Recorder()
    list(itertools.islice(relax_stream(Source(), potential, fmax=0.3, max_atoms_per_batch=48), 100))
    assert max(potential.atoms_per_call) <= 48
    assert np.mean(potential.atoms_per_call) > 0.8 * 48


def test_nothing_is_overtaken_for_long() -> None:
    order = [int(key[3:]) for key, _ in itertools.islice(relax_stream(Source(), MORSE, fmax=0.3, window=8), 60)]
    assert max(np.abs(np.array(order) - np.arange(60))) < 40


def test_broken_structures_come_out_of_an_endless_input_at_once() -> None:
    source = ((seed, bulk("Xe", a=6.0)) for seed in itertools.count())
    potential = Recorder()
    refused = list(itertools.islice(relax_stream(source, potential, window=5), 20))
    assert [key for key, _ in refused] == list(range(20))
    assert all("Xe" in result.error for _, result in refused)
    assert potential.atoms_per_call == []


def test_a_short_input_ends() -> None:
    assert list(relax_stream([], MORSE)) == []
    ((key, result),) = relax_stream([(7, crystal(1))], MORSE, fmax=0.3)
    assert key == 7 and result.converged


@pytest.mark.parametrize("options", [{"window": 0}, {"fmax": -1.0}, {"max_atoms_per_batch": 0}])
def test_impossible_options_are_refused_before_anything_is_read(options: dict[str, Any]) -> None:
    source = Source()
    with pytest.raises(DPA4Error):
        relax_stream(source, MORSE, **options)
    assert source.n_read == 0


class Small(Recorder):
    """Has memory for 20 atoms."""

    def compute(self, graph: Graph) -> Output:
        if graph.n_atoms > 20:
            raise MemoryError
        return super().compute(graph)


def test_running_out_of_memory_loses_and_repeats_nothing() -> None:
    source = itertools.islice(Source(), 20)
    items = [(0, crystal(0) * (2, 2, 8)), *source]
    results = list(relax_stream(items, Small(), fmax=0.3, window=10, max_atoms_per_batch=64))
    assert sorted(map(str, dict(results))) == sorted(str(key) for key, _ in items)
    assert len(results) == len(items)
    failed = [key for key, result in results if result.error]
    assert failed == [0]
