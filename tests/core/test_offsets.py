"""Energy offsets per element, and the repulsion that is taken off before they are fitted."""

import numpy as np
import pytest
import torch
from ase.build import molecule
from oracle_data import ORACLE

import dpa4_core as dpa4
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import to_system
from dpa4_core.errors import DPA4Error
from dpa4_core.model.config import DPA4Config
from dpa4_core.model.offsets import OffsetFit, set_offsets, shift_offsets
from dpa4_core.potential import repulsion_energy

TRUE = torch.tensor([-13.6, -1032.7, -2043.1, -54321.9, 17.5], dtype=torch.float64)


def compositions(n_frames: int, n_species: int = 5) -> torch.Tensor:
    counts = torch.randint(0, 9, (n_frames, n_species)).double()
    return counts + torch.nn.functional.one_hot(torch.randint(0, n_species, (n_frames,)), n_species)


def fitted(counts, energies, chunk=100, **options):
    fit = OffsetFit(counts.shape[1])
    for part, labels in zip(counts.split(chunk), energies.split(chunk), strict=True):
        fit.add(part, labels)
    return fit.solve(**options)


@pytest.mark.parametrize("chunk", [1, 37, 5000])
def test_offsets_of_additive_energies_come_back_to_the_last_digits(chunk):
    counts = compositions(5000)
    energies = counts @ TRUE
    assert energies.abs().max() > 1e5
    result = fitted(counts, energies, chunk)
    torch.testing.assert_close(result.offsets, TRUE, rtol=0, atol=1e-9)
    assert result.seen.all() and result.n_frames == 5000 and result.rmse_per_atom < 1e-9


def test_a_rare_element_among_many_frames_is_found():
    counts = compositions(20_000)
    counts[:, 3] = 0
    counts[777, 3] = 1
    torch.testing.assert_close(fitted(counts, counts @ TRUE, 1000).offsets, TRUE, rtol=0, atol=1e-8)


def test_an_element_that_never_occurs_gets_zero_and_is_flagged():
    counts = compositions(200)
    counts[:, 2] = 0
    counts[0] += 1
    counts[0, 2] = 0
    result = fitted(counts, counts @ TRUE)
    assert result.seen.tolist() == [True, True, False, True, True]
    assert result.offsets[2] == 0
    torch.testing.assert_close(result.offsets[result.seen], TRUE[result.seen], rtol=0, atol=1e-9)


def test_water_alone_splits_its_energy_in_proportion_to_the_counts():
    counts = torch.tensor([[2.0, 1.0]], dtype=torch.float64) * torch.randint(1, 50, (3000, 1))
    energies = counts @ torch.tensor([-10.0, -480.0], dtype=torch.float64)
    expected = torch.tensor([2.0, 1.0], dtype=torch.float64) * (-500.0 / 5.0)
    torch.testing.assert_close(fitted(counts, energies).offsets, expected, rtol=1e-12, atol=0)


def test_given_offsets_stay_and_the_others_take_the_rest():
    counts = compositions(300)
    result = fitted(counts, counts @ TRUE, fixed={1: -1000.0, 4: 17.5})
    assert result.offsets[1] == -1000.0 and result.offsets[4] == 17.5
    free = np.array([0, 2, 3])
    weights = counts.sum(1, keepdim=True).numpy()
    rest = (counts @ TRUE).numpy() + 1000 * counts[:, 1].numpy() - 17.5 * counts[:, 4].numpy()
    expected = np.linalg.lstsq(counts.numpy()[:, free] / weights, rest / weights[:, 0], rcond=None)[0]
    np.testing.assert_allclose(result.offsets[free], expected, rtol=1e-10)


def test_noise_is_fitted_per_atom_and_its_size_reported():
    counts = compositions(4000)
    n_atoms = counts.sum(1)
    noise = 0.05 * torch.randn(4000, dtype=torch.float64)
    energies = counts @ TRUE + noise * n_atoms
    result = fitted(counts, energies)
    assert result.rmse_per_atom == pytest.approx(0.05, rel=0.05)
    residual = (energies - counts @ result.offsets) / n_atoms
    assert result.rmse_per_atom == pytest.approx(residual.square().mean().sqrt().item(), rel=1e-8)


def test_frames_without_a_label_are_left_out_and_nothing_gives_zero():
    counts = compositions(100)
    energies = counts @ TRUE
    energies[:10] = torch.nan
    result = fitted(counts, energies)
    assert result.n_frames == 90
    torch.testing.assert_close(result.offsets, TRUE, rtol=0, atol=1e-9)
    empty = OffsetFit(5).solve()
    assert empty.offsets.tolist() == [0.0] * 5 and not empty.seen.any() and np.isnan(empty.rmse_per_atom)


def test_a_fit_to_what_is_left_removes_a_constant_shift_per_element():
    model = dpa4.DPA4(DPA4Config.preset("nano", elements=("H", "C", "O"), channels=8), torch.float64)
    model.fit_bias.fill_(0.25)
    potential = dpa4.Potential(model)
    systems = [to_system(molecule(name)) for name in ("H2O", "CH4", "CO2", "CH3OH", "CO")]
    graph = build_graph(systems, potential.cutoff)
    before = potential.compute(graph).energy
    shift = torch.tensor([3.0, -7.0, 11.0], dtype=torch.float64)
    set_offsets(model, shift)
    moved = potential.compute(graph).energy
    species = potential._species_of[graph.atomic_numbers]
    counts = torch.zeros(len(systems), 3, dtype=torch.float64)
    counts.index_put_((graph.system_idx, species), torch.ones(len(species), dtype=torch.float64), accumulate=True)
    fit = OffsetFit(3)
    fit.add(counts, before - moved)
    shift_offsets(model, fit.solve().offsets)
    assert (model.fit_bias == 0.25).all()
    torch.testing.assert_close(potential.compute(graph).energy, before, rtol=0, atol=1e-10)


def test_wrong_shapes_are_refused():
    model = dpa4.DPA4(DPA4Config.preset("nano", elements=("H", "O"), channels=8))
    with pytest.raises(DPA4Error, match="2 species"):
        set_offsets(model, torch.zeros(3))
    with pytest.raises(DPA4Error, match="counts have 3 species, the fit 2"):
        OffsetFit(2).add(torch.ones(4, 3), torch.ones(4))


@pytest.mark.parametrize("name, bridged", [("zbl", True), ("neo_like", False)])
def test_repulsion_is_the_part_of_the_energy_that_no_weight_changes(name, bridged):
    potential = dpa4.load(ORACLE / "tiny" / f"{name}.pt", dtype="float64")
    atoms = molecule("H2O")
    squeezed = atoms.copy()
    squeezed.positions *= 0.6
    graph = build_graph([to_system(atoms), to_system(squeezed)], potential.cutoff)
    repulsion = repulsion_energy(potential.model, graph)
    assert repulsion.shape == (2,)
    if not bridged:
        assert (repulsion == 0).all()
        return
    assert repulsion[1] > repulsion[0] > 0
    with torch.no_grad():
        potential.model.fitting.out.zero_()
        potential.model.fit_bias.zero_()
    set_offsets(potential.model, torch.zeros(len(potential.model.config.elements)))
    torch.testing.assert_close(potential.compute(graph).energy, repulsion)
