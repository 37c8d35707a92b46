"""The compiled network is the network."""

import functools

import pytest
import torch
from ase.build import bulk, molecule
from oracle_data import ORACLE

import dpa4_core as dpa4
from dpa4_core.compiled import CALLS_BEFORE, CompiledNetwork
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import to_system
from dpa4_core.errors import DPA4Error

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # Inductor's own imports

NANO, NEO, CHARGED = (ORACLE / "tiny" / f"{name}.pt" for name in ("nano_like", "neo_like", "charge_spin"))


def graphs(cutoff):
    structures = [molecule("CH3CH2OH"), bulk("Cu"), molecule("H2O"), bulk("Si", cubic=True)]
    for structure in structures:
        structure.rattle(0.1, seed=3)
    return [build_graph([to_system(s)], cutoff) for s in structures] + [build_graph([], cutoff)]


def compare(path):
    """Forces and energies of graphs of different size against those of the plain network, compiled once."""
    torch._dynamo.reset()
    plain = dpa4.load(path, dtype="float64", compile=False)
    compiled = dpa4.load(path, dtype="float64", compile=True)
    for number, graph in enumerate(graphs(plain.cutoff)):
        with torch._dynamo.config.patch(error_on_recompile=number > 0):
            found = compiled.compute(graph)
        assert compiled._compiled._ready
        for key in ("energy", "atom_energies", "forces", "virial"):
            torch.testing.assert_close(getattr(found, key), getattr(plain.compute(graph), key), rtol=1e-10, atol=1e-10)


def test_traced_network_equals_the_plain_one(monkeypatch, capfd):
    """Without code generation; what differs from the plain network is the tracing, padding and the gradient."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    compare(CHARGED)
    assert capfd.readouterr().err.count("compiling the network") == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_compiled_network_equals_the_plain_one():
    compare(NEO)


def test_what_cannot_be_compiled_is_said_once_and_computed_all_the_same(monkeypatch):
    def broken(_graph, _inputs):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=broken))
    torch._dynamo.reset()
    potential = dpa4.load(NANO, compile=True)
    graph = graphs(potential.cutoff)[0]
    with pytest.warns(UserWarning, match="cannot be compiled here and runs as it is .*no compiler here"):
        found = potential.compute(graph)
    expected = dpa4.load(NANO, compile=False).compute(graph)
    assert torch.equal(found.forces, expected.forces)
    assert torch.equal(potential.compute(graph).forces, expected.forces)  # and no second warning, which would raise


def test_the_environment_decides_for_auto(monkeypatch):
    model, cuda = dpa4.load(NEO).model, torch.device("cuda")
    for value, wanted in (("0", False), ("1", True)):
        monkeypatch.setenv("DPA4_COMPILE", value)
        assert CompiledNetwork(model, "auto").wanted(cuda) is wanted
        assert CompiledNetwork(model, False).wanted(cuda) is False


def test_auto_compiles_on_a_gpu_after_some_calls_and_never_on_a_cpu():
    network = CompiledNetwork(dpa4.load(NEO).model, "auto")
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert [network.wanted(cuda) for _ in range(CALLS_BEFORE + 2)] == [False] * CALLS_BEFORE + [True] * 2
    assert not network.wanted(cpu)
    with pytest.raises(DPA4Error, match="compile must be 'auto', True or False, not 'yes'"):
        dpa4.load(NEO, compile="yes")
