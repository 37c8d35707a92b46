"""Another quantity than the energy on the same descriptor."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from oracle_data import ORACLE
from test_presets import random_potential

import dpa4_core as dpa4
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import to_system
from dpa4_core.errors import DPA4Error
from dpa4_core.loaded import save
from dpa4_core.model.property import PropertyConfig, PropertyModel, read_property_model, write_property_model
from dpa4_core.properties import PropertyPredictor, load_property, predict_property

STRUCTURES = [molecule("H2O"), molecule("CH3CH2OH"), bulk("Cu"), bulk("Si")]


def predictor(kind="intensive", **options):
    potential = random_potential("neo", n_blocks=1, lmax=2)
    head = PropertyConfig("band_gap", "eV", kind, mean=1.5, scale=0.8, **options)
    return PropertyPredictor(PropertyModel(potential.model, head), potential.info)


def values(structures, model, **options):
    predictions = predict_property(structures, model, **options)
    assert all(prediction.error is None for prediction in predictions), predictions
    return np.array([prediction.value for prediction in predictions])


@pytest.mark.parametrize("kind, factor", [("intensive", 1), ("extensive", 8)])
def test_a_supercell_has_the_same_intensive_and_a_multiple_extensive_property(kind, factor):
    model = predictor(kind)
    small, large = values([bulk("Cu"), bulk("Cu") * (2, 2, 2)], model)
    assert large == pytest.approx(factor * small, rel=1e-10)


def test_the_property_is_invariant_under_rotation_and_permutation():
    model = predictor()
    atoms = molecule("CH3CH2OH")
    turned = atoms.copy()
    turned.rotate(37, (1, 2, 3))
    shuffled = atoms[np.random.permutation(len(atoms))]
    expected, *others = values([atoms, turned, shuffled], model)
    np.testing.assert_allclose(others, expected, rtol=1e-10)


def test_batches_give_what_single_structures_give():
    model = predictor("extensive")
    together = values(STRUCTURES, model)
    np.testing.assert_allclose(values(STRUCTURES, model, max_atoms_per_batch=1), together, rtol=1e-10)
    assert len(set(together.round(6))) == len(STRUCTURES)


@pytest.mark.parametrize("kind", ["intensive", "extensive"])
def test_atoms_that_fill_up_a_batch_do_not_count(kind):
    model = predictor(kind)
    graph = build_graph([to_system(molecule("H2O"))], model.cutoff)
    species = model._species_of[graph.atomic_numbers]
    exact = model.values(graph)
    padded = model.model(
        graph.edge_vectors(),
        graph.src,
        graph.dst,
        torch.cat([species, species[:2]]),
        torch.zeros(5, dtype=torch.int64),
        1,
        atom_mask=torch.tensor([True] * 3 + [False] * 2),
    )
    torch.testing.assert_close(padded, exact, rtol=1e-12, atol=0)


def test_mean_and_scale_are_in_the_unit_of_the_property():
    model = predictor("extensive")
    with torch.no_grad():
        model.model.head.out.zero_()
    assert values([molecule("H2O")], model)[0] == pytest.approx(3 * 1.5)


def test_the_energy_head_of_the_backbone_is_not_trained():
    model = predictor().model
    graph = build_graph([to_system(molecule("H2O"))], 4.5)
    species = torch.tensor([2, 0, 0])
    model(graph.edge_vectors(), graph.src, graph.dst, species, graph.system_idx, 1).sum().backward()
    lacking = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert all(p.grad is None for p in model.backbone.fitting.parameters())
    assert not any(name.startswith("head") for name in lacking)


def test_a_property_model_survives_its_file(tmp_path):
    model = predictor(hidden=(16, 0))
    path = write_property_model(model.model, model.info, tmp_path / "gap.dpa4")
    loaded = load_property(path, dtype="float64")
    assert loaded.model.config == model.model.config and loaded.info.elements == model.info.elements
    np.testing.assert_allclose(values(STRUCTURES, loaded), values(STRUCTURES, model), rtol=1e-14)
    assert read_property_model(path, dtype=None)[0].dtype == torch.float64
    rough = values(STRUCTURES, path)  # float32
    np.testing.assert_allclose(rough, values(STRUCTURES, model), rtol=1e-3)


def test_each_kind_of_file_says_what_reads_it(tmp_path):
    model = predictor()
    path = write_property_model(model.model, model.info, tmp_path / "gap.dpa4")
    with pytest.raises(DPA4Error, match=r"gap\.dpa4.*holds a property model; use load_property"):
        dpa4.load(path)
    save(random_potential("nano"), tmp_path / "energy.dpa4")
    with pytest.raises(DPA4Error, match=r"energy\.dpa4.*holds a potential; use dpa4_core\.load"):
        load_property(tmp_path / "energy.dpa4")
    with pytest.raises(DPA4Error, match=r"torch checkpoint.*use dpa4_core\.load"):
        load_property(ORACLE / "tiny" / "neo_like.pt")


def test_a_damaged_or_missing_file_is_refused_in_a_sentence(tmp_path):
    model = predictor()
    path = write_property_model(model.model, model.info, tmp_path / "gap.dpa4")
    content = path.read_bytes()
    for size in (0, 5, 2000, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(DPA4Error, match=r"gap\.dpa4 is (damaged|empty)"):
            load_property(path)
    path.write_bytes(content.replace(b'\\"scale\\"', b'\\"scala\\"'))
    with pytest.raises(DPA4Error, match="does not match the digest"):
        load_property(path)
    with pytest.raises(DPA4Error, match="does not exist"):
        load_property(tmp_path / "nowhere.dpa4")


def test_a_bad_structure_is_a_recorded_failure():
    close = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.01]])
    foreign = Atoms("Fe", cell=[3, 3, 3], pbc=True)
    good, *failed = predict_property([molecule("H2O"), close, foreign], predictor())
    assert good.error is None and np.isfinite(good.value)
    assert all(np.isnan(p.value) and p.error for p in failed)


@pytest.mark.parametrize("options, message", [({"kind": "molar"}, "molar"), ({"scale": 0.0}, "scale positive")])
def test_a_head_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(DPA4Error, match=message):
        PropertyConfig("x", **options)
