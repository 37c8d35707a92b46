"""More elements in a trained model, and fixed parts of it."""

import pytest
import torch
from ase.build import bulk, molecule
from test_presets import random_potential

from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import to_system
from dpa4_core.errors import DPA4Error
from dpa4_core.model.checkpoint import read_model, write_model
from dpa4_core.model.lora import add_adapters
from dpa4_core.model.surgery import extend_elements, freeze
from dpa4_core.potential import Potential


def trained(**changes):
    potential = random_potential("neo", n_blocks=1, lmax=2, **changes)
    with torch.no_grad():
        for table in (potential.model.species.table, potential.model.film.species.table):
            table[-1] = 0
        potential.model.out_bias.copy_(torch.linspace(-5, 5, len(potential.model.config.elements))[None, :, None])
        potential.model.fit_bias.fill_(0.5)
    return potential


def energies(model, info, atoms):
    potential = Potential(model, info)
    return potential.compute(build_graph([to_system(atoms)], potential.cutoff)).atom_energies


def test_energies_of_the_old_elements_stay_to_the_bit():
    potential = trained()
    extended, info = extend_elements(potential.model, potential.info, ["Fe", "Ni", "H"])
    assert extended.config.elements == ("H", "C", "O", "Si", "Cu", "Fe", "Ni")
    for atoms in (molecule("CH3CH2OH"), bulk("Cu")):
        before = energies(potential.model, potential.info, atoms)
        assert torch.equal(energies(extended, info, atoms), before)


def test_rows_of_new_elements_are_random_and_the_last_row_stays_zero():
    potential = trained()
    extended, info = extend_elements(potential.model, potential.info, ["Fe"])
    for table in (extended.species.table, extended.film.species.table):
        assert table.shape[0] == 7
        assert (table[-1] == 0).all() and (table[5] != 0).all()
    assert extended.out_bias[0, 5, 0] == 0 and extended.out_std[0, 5, 0] == 1
    assert info.elements == potential.info.elements  # an untrained element is not promised
    assert info.n_parameters == sum(p.numel() for p in extended.parameters())


def test_an_element_that_starts_like_another_has_its_energy():
    potential = trained()
    extended, info = extend_elements(potential.model, potential.info, ["Ag"], like={"Ag": "Cu"})
    copper = bulk("Cu", a=4.0)
    silver = bulk("Ag", a=4.0)
    assert torch.equal(energies(extended, info, silver), energies(extended, info, copper))


def test_an_untrained_element_of_the_type_map_can_start_like_another():
    potential = trained()
    info = potential.info.__class__(elements=(1, 6, 8, 14))
    extended, new = extend_elements(potential.model, info, [], like={"Cu": "Si"})
    assert extended.config == potential.model.config and new.elements == (1, 6, 8, 14)
    assert torch.equal(extended.species.table[4], potential.model.species.table[3])
    assert extended.out_bias[0, 4, 0] == potential.model.out_bias[0, 3, 0]


def test_an_extended_model_survives_its_file(tmp_path):
    potential = trained(bridge={"inner": 0.5, "outer": 0.8})
    extended, info = extend_elements(potential.model, potential.info, ["Fe"])
    assert extended.nuclear_charge.tolist()[-1] == 26
    write_model(extended, info, tmp_path / "x.dpa4")
    back, _ = read_model(tmp_path / "x.dpa4", dtype=None)
    assert all(torch.equal(a, b) for a, b in zip(back.parameters(), extended.parameters(), strict=True))


@pytest.mark.parametrize(
    "symbols, like, message",
    [
        (["Xy"], {}, "'Xy' is not a chemical symbol"),
        ([], {"H": "C"}, "H was trained"),
        (["Fe"], {"Fe": "Ni"}, "Fe cannot start from Ni"),
    ],
)
def test_what_makes_no_sense_is_refused(symbols, like, message):
    potential = trained()
    with pytest.raises(DPA4Error, match=message):
        extend_elements(potential.model, potential.info, symbols, like)


def test_elements_are_not_added_under_adapters():
    potential = trained()
    add_adapters(potential.model, rank=2)
    with pytest.raises(DPA4Error, match="merge_adapters"):
        extend_elements(potential.model, potential.info, ["Fe"])


def test_groups_of_parameters_are_frozen_by_name():
    model = random_potential("neo").model
    assert set(freeze(model, ["species"])) == {"species.table", "film.species.table"}
    assert not model.species.table.requires_grad and model.fitting.out.requires_grad
    first = freeze(model, ["blocks.0", "radial"])
    assert all(name.startswith(("blocks.0.", "radial.", "basis.")) for name in first)
    assert model.blocks[1].conv.query.requires_grad
    freeze(model, ["backbone"])
    left = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert left == {"readout", "fitting"}


def test_an_unknown_group_names_the_choices():
    model = random_potential("neo").model
    with pytest.raises(DPA4Error, match=r"'blocks\.7'; choose from species.*blocks\.0, blocks\.1, backbone"):
        freeze(model, ["blocks.7"])
