"""The compiled step has the gradient of the eager one, second derivatives included, and is compiled once."""

import functools

import numpy as np
import pytest
import torch
from toy_training import (
    configured,
    gradients,
    largest_difference,
    maker,
    of_kind,
    recorded,
    stored_frames,
    tiny_model,
    toy_frames,
    write,
)

from dpa4_core.train.budget import padding_for
from dpa4_core.train.loss import LossConfig
from dpa4_core.train.packing import Budget, plan_epoch
from dpa4_core.train.step import Step

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # Inductor's own imports

BATCHES = ([0, 1], [2, 3, 4], [5], [])


def compare(folder, dtype, tolerance, batches=BATCHES, **network):
    """Gradients of batches of different real size against eager ones; nothing is compiled twice."""
    store = stored_frames(folder / "store", toy_frames(6, 4))
    model = tiny_model(dtype=dtype, **network)
    padding = padding_for(store, np.arange(6), Budget(20, 300))
    padded, plain = maker(store, model, padding=padding), maker(store, model)
    compiled, eager = Step(model, LossConfig(), compiled=True), Step(model, LossConfig())
    torch._dynamo.reset()
    for number, chosen in enumerate(batches):
        indices = np.array(chosen, dtype=np.int64)
        counts = torch.from_numpy(plain.counts(indices))
        loss, sums = eager(plain.make(indices, (0, number)), counts)
        loss.backward()
        expected = gradients(model)
        with torch._dynamo.config.patch(error_on_recompile=number > 0):
            padded_batch = padded.make(indices, (0, number))
            assert padded_batch.n_real != (padding.atoms, padding.edges, padding.frames)
            compiled_loss, compiled_sums = compiled(padded_batch, counts)
            compiled_loss.backward()
        found = gradients(model)
        assert compiled_loss.item() == pytest.approx(loss.item(), rel=tolerance)
        torch.testing.assert_close(compiled_sums, sums, rtol=10 * tolerance, atol=tolerance)
        if chosen:
            assert largest_difference(found, expected) < tolerance
        else:
            assert not any(value.any() for value in found.values())


def test_traced_gradient_equals_the_eager_one(tmp_path, monkeypatch):
    """Without code generation; what differs from eager is the tracing through two derivatives."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    compare(tmp_path, torch.float64, 1e-12, mixing_layers=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_compiled_gradient_equals_the_eager_one(tmp_path, dtype, tolerance):
    compare(tmp_path, dtype, tolerance, mixing_layers=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_compiled_gradient_of_a_network_with_all_its_parts_equals_the_eager_one(tmp_path):
    network = {"lmax": 2, "mixer_rank": 1, "n_focus": 2, "charge_spin": (0, 1)}
    compare(tmp_path, torch.float64, 1e-12, batches=BATCHES[:2], **network)


def test_every_batch_of_a_run_has_one_padded_size(tmp_path):
    frames = toy_frames(30)
    store = stored_frames(tmp_path / "store", frames)
    for budget in (Budget(16, 200), Budget(16, 200, 3), Budget(1, 1), Budget(100, 10**4)):
        model = tiny_model()
        padding = padding_for(store, np.arange(30), budget)
        batches = maker(store, model, padding=padding)
        arrays = store.arrays
        shapes = set()
        for step in plan_epoch(arrays["n_atoms"], arrays["n_edges"], budget, seed=0, epoch=0):
            for part in step:
                batch = batches.make(part)
                shapes.add((len(batch.species), len(batch.src), len(batch.labels.energy)))
        assert shapes == {tuple(padding)}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_compiled_run_equals_an_eager_one(tmp_path):
    data = write(tmp_path, toy_frames(20))
    changes = {"run__steps": 4, "run__log_every": 1, "model__mixing_layers": 1}
    runs = []
    for compile_it in (False, True):
        config = configured(data, tmp_path / str(compile_it), run__compile=compile_it, **changes)
        runs.append(of_kind(recorded(config)[1], "train"))
    for eager, compiled in zip(*runs, strict=True):
        for name in ("loss", "force_mae", "energy_mae", "stress_mae", "gradient_norm"):
            assert compiled[name] == pytest.approx(eager[name], rel=1e-9)
    assert all(record["timing"]["padding_fraction"] > 0 for record in runs[1])
