"""The objective of the trainer: its value by hand, its gradient by other means, and no trace of padding."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_training import (
    everything,
    gradients,
    labelled,
    largest_difference,
    maker,
    stored_frames,
    tiny_model,
    toy_frames,
    toy_structures,
)

from dpa4_core.data.neighbours import build_graph
from dpa4_core.errors import DPA4Error
from dpa4_core.model.property import PropertyConfig, PropertyModel
from dpa4_core.potential import Potential, derive, species_table
from dpa4_core.train.loader import Padding
from dpa4_core.train.loss import SUMS, Labels, LossConfig, energy_loss, errors_from_sums, property_loss
from dpa4_core.train.step import PropertyStep, Step

KINDS = ("mae", "mse", "huber")


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def two_frames():
    """One atom, and two atoms with one edge from atom 1 to atom 2 along x; arguments of `energy_loss` after counts."""
    labels = Labels(
        energy=double([1.0, 10.0]),
        forces=double([[0.0, 0.3, 0.4], [2.0, 0.0, 0.0], [-2.0, 0.0, 0.0]]),
        virial=torch.stack([double([0.0] * 3).diag(), double([0.0, 1.8, -3.6]).diag()]),
        energy_weight=double([1.0, 1.0]),
        force_weight=double([1.0, 1.0, 1.0]),
        virial_weight=double([0.0, 1.0]),
        n_atoms=double([1.0, 2.0]),
        volume=double([1.0, 10.0]),
    )
    atom_energies = double([1.5, 4.0, 5.0])
    gradient, edge_vec = double([[3.0, 0.0, 0.0]]), double([[2.0, 0.0, 0.0]])
    src, dst, system_idx = torch.tensor([2]), torch.tensor([1]), torch.tensor([0, 1, 1])
    return labels, (atom_energies, gradient, edge_vec, src, dst, system_idx)


# by hand: ΔE/N = 0.5 and −0.5; forces (0, 0, 0), (3, 0, 0), (−3, 0, 0), so ‖ΔF‖ = 0.5, 1, 1;
# W = −3·2 in xx, ΔW/N = diag(−3, −0.9, 1.8)
@pytest.mark.parametrize(
    ("kind", "energy", "forces", "virial"),
    [
        ("mae", 0.5, 2.5 / 3, 5.7 / 9),
        ("mse", 0.25, (0.25 + 1 + 1) / 3 / 3, (9 + 0.81 + 3.24) / 9),
        # delta 0.8: ½·0.25 below, 0.8(|x| − 0.4) above
        ("huber", 0.125, (0.125 + 0.48 + 0.48) / 3, 0.8 * (2.6 + 0.5 + 1.4) / 9),
    ],
)
def test_terms_equal_numbers_computed_by_hand(kind, energy, forces, virial):
    labels, rest = two_frames()
    counts = double([2.0, 3.0, 1.0])
    for weights, expected in (
        ((1.0, 0.0, 0.0), energy),
        ((0.0, 1.0, 0.0), forces),
        ((0.0, 0.0, 1.0), virial),
        ((20.0, 10.0, 5.0), 20 * energy + 10 * forces + 5 * virial),
    ):
        config = LossConfig(*weights, kind=kind, delta=0.8)
        loss, _ = energy_loss(config, labels, counts, *rest)
        assert float(loss) == pytest.approx(expected, rel=1e-14)


def test_default_weights_are_those_of_the_published_models():
    labels, rest = two_frames()
    loss, _ = energy_loss(LossConfig(), labels, double([2.0, 3.0, 1.0]), *rest)
    assert float(loss) == pytest.approx(20 * 0.5 + 20 * 2.5 / 3 + 5 * 5.7 / 9, rel=1e-14)


def test_errors_equal_numbers_computed_by_hand():
    labels, rest = two_frames()
    counts = double([2.0, 3.0, 1.0])
    _, sums = energy_loss(LossConfig(), labels, counts, *rest)
    errors = errors_from_sums(sums, counts)
    assert errors.energy_mae == pytest.approx(0.5) and errors.energy_rmse == pytest.approx(0.5)
    assert errors.force_mae == pytest.approx((0.3 + 0.4 + 1 + 1) / 9)
    assert errors.force_rmse == pytest.approx(np.sqrt((0.25 + 1 + 1) / 9))
    assert errors.force_norm_mae == pytest.approx(2.5 / 3)
    # stress = −W/V with V = 10: components 0.6, 0.18, −0.36 and three zeros
    assert errors.stress_mae == pytest.approx((0.6 + 0.18 + 0.36) / 6)
    assert errors.stress_rmse == pytest.approx(np.sqrt((0.36 + 0.0324 + 0.1296) / 6))


def test_missing_labels_and_weights_leave_and_scale_their_own_terms_only():
    labels, rest = two_frames()
    labels = labels._replace(
        energy_weight=double([0.0, 3.0]), force_weight=double([0.5, 0.0, 0.0]), virial_weight=double([0.0, 0.0])
    )
    counts = double([1.0, 1.0, 0.0])
    loss, sums = energy_loss(LossConfig(2.0, 10.0, 5.0), labels, counts, *rest)
    assert float(loss) == pytest.approx(2 * 3 * 0.5 + 10 * 0.5 * 0.5, rel=1e-14)
    errors = errors_from_sums(sums, counts)
    assert errors.energy_mae == pytest.approx(0.5)  # a weight says how much it counts, not how wrong it is
    assert errors.force_norm_mae == pytest.approx(0.5)
    assert np.isnan(errors.stress_mae) and np.isnan(errors.stress_rmse)


def test_only_the_symmetric_part_of_the_virial_counts_as_stress():
    labels, (energies, gradient, _, *indices) = two_frames()
    tilted = double([[2.0, 1.0, 0.0]])  # W has xy but no yx
    _, sums = energy_loss(LossConfig(), labels, double([2.0, 3.0, 1.0]), energies, gradient, tilted, *indices)
    assert float(sums[SUMS.index("stress_abs")]) == pytest.approx(0.6 + 0.18 + 0.36 + 0.5 * 3 / 10)


def test_exact_forces_have_no_gradient_that_is_not_a_number():
    labels, (energies, gradient, *rest) = two_frames()
    labels = labels._replace(forces=double([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [-3.0, 0.0, 0.0]]))
    gradient.requires_grad_()
    loss, _ = energy_loss(LossConfig(virial=0.0), labels, double([2.0, 3.0, 1.0]), energies, gradient, *rest)
    (derivative,) = torch.autograd.grad(loss, gradient)
    assert torch.equal(derivative, torch.zeros_like(derivative))


@pytest.mark.parametrize("per_atom", [False, True])
@pytest.mark.parametrize(("kind", "terms"), [("mae", (2.0, 4.0)), ("mse", (4.0, 16.0)), ("huber", (1.5, 3.5))])
def test_property_loss_is_in_units_of_the_spread(kind, terms, per_atom):
    labels, _ = two_frames()
    labels = labels._replace(energy=double([1.0, 2.0]), energy_weight=double([1.0, 0.5]))
    config = LossConfig(property=3.0, kind=kind, delta=1.0)
    value = double([2.0, 4.0 if not per_atom else 6.0])
    loss, sums = property_loss(config, labels, double([2.0, 0.0, 0.0]), value, 0.5, per_atom=per_atom)
    assert float(loss) == pytest.approx(3 * (terms[0] + 0.5 * terms[1]) / 2)
    deviation = (1.0, 2.0 if not per_atom else 4.0)
    assert sums[:2].tolist() == pytest.approx([sum(deviation), sum(d**2 for d in deviation)])


@pytest.mark.parametrize("changes", [{"forces": -1.0}, {"energy": 0, "forces": 0, "virial": 0, "property": 0}])
def test_weights_that_make_no_sense_are_refused(changes):
    with pytest.raises(DPA4Error, match="weights of the loss"):
        LossConfig(**changes)
    with pytest.raises(DPA4Error, match="delta"):
        LossConfig(delta=0.0)


# ---- with a network


def mixed_store(folder, seed=1):
    """Cells and clusters with random labels, some of which are missing."""
    frames = labelled(toy_structures(6, 3), seed=seed)
    del frames[1].calc.results["energy"], frames[2].calc.results["forces"], frames[3].calc.results["stress"]
    return stored_frames(folder, frames, weights=[1.5, 2.0, 0.25, 0.5, 1.0, 3.0])


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(tmp_path, kind):
    store, model = mixed_store(tmp_path / "store"), tiny_model()
    chosen = everything(store)
    step = Step(model, LossConfig(kind=kind))
    plain = maker(store, model)
    counts = torch.from_numpy(plain.counts(chosen))
    loss, sums = step(plain.make(chosen), counts)
    loss.backward()
    expected = gradients(model)
    assert max(float(g.abs().max()) for g in expected.values()) > 0.1
    n_atoms, n_edges, n_frames = plain.make(chosen).n_real
    for more in ((1, 1, 1), (1, 300, 1), (23, 0, 2), (40, 500, 7)):
        padding = Padding(n_atoms + more[0], n_edges + more[1], n_frames + more[2])
        batch = maker(store, model, padding=padding).make(chosen)
        assert len(batch.src) == padding.edges and len(batch.species) == padding.atoms
        padded, padded_sums = step(batch, counts)
        padded.backward()
        assert padded.item() == pytest.approx(loss.item(), rel=1e-14)
        torch.testing.assert_close(padded_sums, sums, rtol=1e-14, atol=1e-14)
        assert largest_difference(gradients(model), expected) < 1e-14


@pytest.mark.parametrize("padding", [None, Padding(5, 7, 2)])
def test_a_part_without_frames_adds_nothing(tmp_path, padding):
    store, model = mixed_store(tmp_path / "store"), tiny_model()
    batches = maker(store, model, padding=padding)
    nothing = np.zeros(0, dtype=np.int64)
    counts = torch.from_numpy(batches.counts(everything(store)))
    loss, sums = Step(model, LossConfig())(batches.make(nothing), counts)
    loss.backward()
    assert loss.item() == 0 and not sums.any()
    assert all(not value.any() for value in gradients(model).values())
    assert not batches.counts(nothing).any()


def test_padding_does_not_change_a_property(tmp_path):
    frames = toy_frames(4)
    store = stored_frames(tmp_path / "store", frames)
    store.arrays["target"] = np.linspace(-1.0, 2.0, 4)
    for kind in ("intensive", "extensive"):
        model = PropertyModel(tiny_model(), PropertyConfig("gap", kind=kind, mean=0.3, scale=2.0))
        step = PropertyStep(model, LossConfig())
        results = []
        for padding in (None, Padding(60, 900, 9)):
            batches = maker(store, model.backbone, padding=padding, target=True)
            counts = torch.from_numpy(batches.counts(everything(store)))
            loss, sums = step(batches.make(everything(store)), counts)
            loss.backward()
            results.append((loss.item(), sums, gradients(model)))
        (loss, sums, found), (padded, padded_sums, padded_found) = results
        assert loss > 0 and padded == pytest.approx(loss, rel=1e-14)
        torch.testing.assert_close(padded_sums, sums, rtol=1e-13, atol=0)
        assert largest_difference(padded_found, found) < 1e-13


def loss_through_derive(model, store, chosen, config):
    """The objective written down once more, on forces and virial of `derive` and labels of the store."""
    arrays = store.arrays
    graph = build_graph([store.system(int(i)) for i in chosen], model.config.cutoff)
    edge_vec = graph.edge_vectors().detach().requires_grad_()
    species = species_table(model.config)[graph.atomic_numbers]
    energies = model(edge_vec, graph.src, graph.dst, species)
    output = derive(energies, edge_vec, graph, create_graph=True)
    n_atoms = torch.from_numpy(arrays["n_atoms"][chosen]).double()
    terms = [[], [], []]
    first = np.concatenate([[0], np.cumsum(arrays["n_atoms"][chosen])])
    for position, i in enumerate(chosen):
        weight = float(arrays["weight"][i, 0])
        if not np.isnan(arrays["energy"][i]):
            delta = (output.energy[position] - float(arrays["energy"][i])) / n_atoms[position]
            terms[0].append(weight * delta.abs())
        if arrays["has_forces"][i]:
            reference = torch.from_numpy(np.array(arrays["forces"][store.first[i] : store.first[i + 1]]))
            delta = output.forces[first[position] : first[position + 1]] - reference
            terms[1] += [weight * row.norm() for row in delta]
        if not np.isnan(arrays["stress"][i, 0, 0]):
            volume = abs(np.linalg.det(arrays["cell"][i]))
            delta = output.virial[position] + volume * torch.from_numpy(np.array(arrays["stress"][i]))
            terms[2].append(weight * delta.abs().mean() / n_atoms[position])
    means = [torch.stack(term).sum() / len(term) for term in terms]
    return config.energy * means[0] + config.forces * means[1] + config.virial * means[2]


def test_gradient_equals_that_of_a_hand_made_loss_through_derive(tmp_path):
    store, model, config = mixed_store(tmp_path / "store"), tiny_model(), LossConfig()
    chosen = everything(store)
    batches = maker(store, model)
    counts = torch.from_numpy(batches.counts(chosen))
    loss, _ = Step(model, config)(batches.make(chosen), counts)
    loss.backward()
    found = gradients(model)
    by_hand = loss_through_derive(model, store, chosen, config)
    parameters = dict(model.named_parameters())
    derivative = torch.autograd.grad(by_hand, list(parameters.values()), create_graph=True, materialize_grads=True)
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-12)
    expected = {name: value.detach() for name, value in zip(parameters, derivative, strict=True)}
    assert largest_difference(found, expected) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_equals_finite_differences(tmp_path, kind):
    store, model = mixed_store(tmp_path / "store"), tiny_model()
    chosen = everything(store)
    batches = maker(store, model)
    batch, counts = batches.make(chosen), torch.from_numpy(batches.counts(chosen))
    step = Step(model, LossConfig(kind=kind))
    step(batch, counts)[0].backward()
    found = gradients(model)
    names = [name for name in found if name.startswith(("species.table", "radial", "blocks.0", "fitting"))][::7]
    assert len(names) > 3
    for name in names:
        weight = model.get_parameter(name).data.view(-1)
        place = int(found[name].abs().argmax())
        value = float(weight[place])
        sides = []
        for change in (1e-5, -1e-5):
            weight[place] = value + change
            sides.append(float(step(batch, counts)[0].detach()))
        weight[place] = value
        assert (sides[0] - sides[1]) / 2e-5 == pytest.approx(float(found[name].view(-1)[place]), rel=1e-5, abs=1e-7)


def test_labels_of_the_model_itself_have_no_error(tmp_path):
    """Signs and units of energy, force and stress are those of `Potential.compute`."""
    model = tiny_model()
    frames = toy_frames(6)
    store = stored_frames(tmp_path / "store", frames)
    truth = Potential(model).compute(build_graph([store.system(i) for i in range(6)], model.config.cutoff))
    arrays = store.arrays
    arrays["energy"], arrays["forces"] = truth.energy.numpy(), truth.forces.numpy()
    stress = truth.stress.numpy()
    arrays["stress"] = np.where(np.isnan(arrays["stress"]), np.nan, stress)
    batches = maker(store, model)
    chosen = everything(store)
    counts = batches.counts(chosen)
    assert counts.tolist() == [6, sum(len(atoms) for atoms in frames), 4]
    counts = torch.from_numpy(counts)
    batch = batches.make(chosen)
    for run in (Step(model, LossConfig()), Step(model, LossConfig()).evaluate):
        _, sums = run(batch, counts)
        assert max(errors_from_sums(sums, counts)) < 1e-12
    # and the label has the size of a virial, so a wrong volume or sign would show
    flipped = arrays["stress"] * -1
    arrays["stress"] = flipped
    _, sums = Step(model, LossConfig()).evaluate(maker(store, model).make(chosen), counts)
    expected = 2 * np.abs(stress[~np.isnan(flipped[:, 0, 0])][:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]).mean()
    assert errors_from_sums(sums, counts).stress_mae == pytest.approx(expected, rel=1e-10)


def test_evaluation_equals_the_training_step_and_leaves_no_gradient(tmp_path):
    store, model = mixed_store(tmp_path / "store"), tiny_model()
    batches, step = maker(store, model), Step(model, LossConfig())
    counts = torch.from_numpy(batches.counts(everything(store)))
    batch = batches.make(everything(store))
    trained, evaluated = step(batch, counts), step.evaluate(batch, counts)
    torch.testing.assert_close(evaluated[0], trained[0].detach(), rtol=1e-13, atol=0)
    torch.testing.assert_close(evaluated[1], trained[1], rtol=1e-13, atol=0)
    assert not evaluated[0].requires_grad and all(p.grad is None for p in model.parameters())


def test_charge_and_spin_reach_the_network(tmp_path):
    frames = toy_frames(3)
    for atoms in frames[:2]:
        atoms.info |= {"charge": 1, "spin": 2}
    store = stored_frames(tmp_path / "store", frames)
    model = tiny_model(charge_spin=(0, 1))
    batch = maker(store, model, padding=Padding(30, 400, 5)).make(everything(store))
    n_first = len(frames[0]) + len(frames[1])
    assert batch.conditioning[:n_first].unique(dim=0).tolist() == [[1, 2]]
    assert batch.conditioning[n_first : n_first + len(frames[2])].unique(dim=0).tolist() == [[0, 1]]
    plain = build_graph([store.system(i) for i in range(3)], model.config.cutoff)
    counts = torch.from_numpy(maker(store, model).counts(everything(store)))
    _, sums = Step(model, LossConfig()).evaluate(batch, counts)
    predicted = Potential(model).compute(plain)
    deviation = (predicted.energy.numpy() - store.arrays["energy"]) / store.arrays["n_atoms"]
    assert float(sums[0]) == pytest.approx(np.abs(deviation).sum(), rel=1e-10)


def test_the_weight_of_the_energy_grows_to_its_final_one():
    config = LossConfig(energy=20.0, final_energy=400.0)
    assert [config.energy_factor(fallen) for fallen in (0.0, 0.5, 1.0)] == [1.0, 10.5, 20.0]
    assert LossConfig().energy_factor(1.0) == 1.0
    labels, rest = two_frames()
    only = replace(config, forces=0.0, virial=0.0)
    usual, grown = (energy_loss(only, labels, double([2.0 / factor, 3.0, 1.0]), *rest)[0] for factor in (1.0, 10.5))
    assert float(grown) == pytest.approx(10.5 * float(usual))


def test_a_roll_of_the_frames_is_reproduced_by_its_seed(tmp_path):
    store, model = mixed_store(tmp_path / "store"), tiny_model()
    batches = maker(store, model)
    first, again, other = (batches.make(everything(store), (0, step)).roll for step in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert (
        first.shape == (batches.make(everything(store)).n_real[1], 1) and first.min() >= 0 and first.max() < 2 * np.pi
    )


def test_a_batch_that_is_too_large_for_its_padding_is_noticed(tmp_path):
    store, model = mixed_store(tmp_path / "store"), tiny_model()
    with pytest.raises(AssertionError, match="exceeds the padded size"):
        maker(store, model, padding=Padding(3, 900, 9)).make(everything(store))


def test_running_out_of_memory_names_the_batch(tmp_path, monkeypatch):
    store, model = mixed_store(tmp_path / "store"), tiny_model()
    batch = maker(store, model).make(everything(store))
    step = Step(model, LossConfig())

    def greedy(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    words = f"{batch.n_real[0]} atoms and {batch.n_real[1]} edges.*lower batch.max_atoms"
    with monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "backward", greedy)  # where most of the memory goes
        with pytest.raises(DPA4Error, match=words):
            step.learn(batch, torch.ones(3))
    monkeypatch.setattr(step, "_run", greedy)
    with pytest.raises(DPA4Error, match=words):
        step(batch, torch.ones(3))
