"""Force calls that are shared among processes: the same numbers, the same errors, and what happens when one is lost."""

from __future__ import annotations

import copy
import io
import logging
import os
import pickle
import signal
import subprocess
import sys
import time

import pytest
import torch
from ase.build import bulk
from toy_members import member_files

from dpa4_core import DPA4Error, load, relax, share_worker, shares
from dpa4_core.committee import Committee
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import to_system
from dpa4_core.model.checkpoint import write_model
from dpa4_core.model.committee import write_committee
from dpa4_core.model.info import ModelInfo
from dpa4_core.terms import with_dispersion


@pytest.fixture(scope="module")
def potentials(tmp_path_factory):
    """A single model, one with dispersion, a committee of three files and the same as one file with adapters."""
    folder = tmp_path_factory.mktemp("models")
    names = member_files(folder, ModelInfo(level_of_theory="PBE", elements=(8, 12)), 2)
    together = write_committee(names, folder / "committee.dpa4")
    single = load(names[0], dtype="float64")
    return [
        single,
        with_dispersion(single, "d3bj-pbe"),
        Committee([single, load(names[1], dtype="float64")]),
        load(together),
    ]


@pytest.fixture
def crew(monkeypatch):
    """Sharing between two processes from the first call on."""
    monkeypatch.setenv("DPA4_PROCESSES", "2")
    monkeypatch.setattr(shares, "WORTH_S", 0.0)
    monkeypatch.setattr(shares, "CALL_EDGES", 0)
    return shares._crew


def graph_of(potential, n=5):
    crystals = [bulk("MgO", "rocksalt", a=4.2).repeat((1, 1, 1 + i % 2)) for i in range(n)]
    for i, crystal in enumerate(crystals):
        crystal.rattle(0.1, seed=i)
    return build_graph([to_system(one) for one in crystals], potential.cutoff, potential.device)


def started(crew, potential):
    """The one other process, when it has begun to take shares."""
    while not (crew._workers and crew._workers[0].is_ready()):
        potential.compute(graph_of(potential))
        time.sleep(0.02)
    return crew._workers[0]


def test_shares_are_neighbours_and_none_is_longer_than_an_even_one_by_more_than_a_system():
    generator = torch.Generator().manual_seed(0)
    for n_systems in range(1, 40):
        costs = torch.randint(1, 100, (n_systems,), generator=generator)
        for n in (1, 2, 3, 8):
            ends = shares.even_shares(costs, n)
            assert ends == sorted(set(ends)) and ends[-1] == n_systems and len(ends) <= n
            longest = max(int(part.sum()) for part in torch.tensor_split(costs, ends[:-1]))
            assert longest <= float(costs.sum()) / n + int(costs.max())


def test_what_is_shared_is_what_one_process_computes_and_an_error_is_raised_as_it_would_be(
    crew, potentials, monkeypatch
):
    worker = started(crew, potentials[0])
    sent, real = [], type(worker).send
    monkeypatch.setattr(type(worker), "send", lambda self, *order: sent.append(order[0]) or real(self, *order))
    for potential in potentials:
        graph = graph_of(potential)
        shared = potential.compute(graph)
        assert sent[-1] == crew._numbers[potential] and len(shared.energy) == 5
        alone = potential.compute_alone(graph)
        for name, one, other in zip(shared._fields[:5], shared, alone, strict=False):
            assert torch.allclose(one, other, rtol=1e-5, atol=1e-7), name
        for one, other in zip(shared.each(), alone.each(), strict=True):
            assert torch.allclose(one, other, rtol=1e-5, atol=1e-7)

    graph = graph_of(potentials[0])
    graph.atomic_numbers[-1] = 92  # in the share of the other process
    with pytest.raises(DPA4Error, match="atomic number 92"):
        potentials[0].compute(graph)
    assert torch.isfinite(potentials[0].compute(graph_of(potentials[0])).energy).all()  # nobody waits for an old answer

    end = relax([bulk("MgO", "rocksalt", a=4.0 + 0.1 * i) for i in range(3)], potentials[0], max_steps=3)
    assert not any(one.error for one in end)


def test_a_process_that_is_killed_is_told_and_its_share_is_computed_here(crew, potentials, caplog):
    potential = potentials[0]
    process = started(crew, potential)._process
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    graph = graph_of(potential)
    with caplog.at_level(logging.WARNING):
        shared = potential.compute(graph)
    assert "is lost" in caplog.text
    assert torch.allclose(shared.energy, potential.compute_alone(graph).energy)
    assert not crew._workers
    crew._started = False


def test_what_other_processes_cannot_read_computes_alone(crew, potentials):
    single = copy.copy(potentials[0])
    single.counter = lambda: None  # as a hook or a benchmark leaves it
    graph = graph_of(single)
    started(crew, single)
    sent = single.compute(graph)
    torch.testing.assert_close(sent.forces, single.compute_alone(graph).forces, rtol=0, atol=0)
    assert single in crew._unsendable and crew._workers[0].is_ready()  # which others go on using


def test_a_potential_is_packed_once_however_often_it_is_sent(crew, potentials, monkeypatch):
    packed, pickled = [], shares._pickled
    monkeypatch.setattr(shares, "_pickled", lambda one: packed.append(one) or pickled(one))
    single = copy.copy(potentials[0])
    started(crew, single)
    for _ in range(2):
        single.compute(graph_of(single))
    assert packed == [single] and single not in crew._packed  # nor are its weights kept twice


def test_an_answer_that_nobody_read_is_not_taken_for_the_next_one(crew, potentials, monkeypatch):
    potential = potentials[0]
    worker = started(crew, potential)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(worker), "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            potential.compute(graph_of(potential))
    assert not crew._workers
    graph = graph_of(potential, 4)
    assert torch.allclose(potential.compute(graph).energy, potential.compute_alone(graph).energy)


def test_a_number_of_processes_that_is_none_is_refused(monkeypatch, potentials):
    monkeypatch.setenv("DPA4_PROCESSES", "many")
    with pytest.raises(DPA4Error, match="DPA4_PROCESSES is 'many'"):
        potentials[0].compute(graph_of(potentials[0]))


class _Broken(io.BytesIO):
    """A pipe that nobody reads."""

    def flush(self) -> None:
        raise BrokenPipeError


def test_a_process_whose_parent_dies_in_the_middle_of_a_message_ends_without_a_word(potentials):
    graph = share_worker.arrays_of(graph_of(potentials[0]))
    message = pickle.dumps(
        share_worker.Order(0, pickle.dumps(potentials[0]), graph, (0,)), protocol=pickle.HIGHEST_PROTOCOL
    )
    for end in (0, 1, 9, 20, len(message) // 2, len(message) - 1, len(message)):
        share_worker.serve(io.BytesIO(message[:end]), io.BytesIO())
    share_worker.serve(io.BytesIO(message), _Broken())


@pytest.mark.slow
def test_a_process_that_is_left_alone_says_nothing():
    for sent in (b"", pickle.dumps("x" * 10**6)[:1000]):
        child = subprocess.Popen(
            [sys.executable, "-m", "dpa4_core.share_worker", "1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        child.stdout.close()  # nobody reads that it is ready
        child.stdin.write(sent)
        child.stdin.close()
        assert (child.wait(60), child.stderr.read()) == (0, b"")
        child.stderr.close()


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them_however_it_ends(tmp_path, potentials):
    write_model(potentials[0].model, potentials[0].info, tmp_path / "model.dpa4")
    code = (
        "import sys, time; from ase.build import bulk; from dpa4_core import load, predict, shares\n"
        "shares.WORTH_S = shares.CALL_EDGES = 0; p = load(sys.argv[1]); atoms = [bulk('MgO', 'rocksalt', a=4.2)] * 4\n"
        "while not (shares._crew._workers and shares._crew._workers[0]._said_hello): predict(atoms, p)\n"
        "print(shares._crew._workers[0]._process.pid, flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "DPA4_PROCESSES": "2"}
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "model.dpa4")], stdout=subprocess.PIPE, env=environment
    )
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the process still ran")
