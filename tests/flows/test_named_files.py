"""What is stored is found again by what a file says: not by its name, and not after it has changed."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure
from test_electrolytes import antifluorite
from test_semiconductor import written
from toy_campaign import MORSE, NO_BUNDLE, layered, rocksalt

from dpa4_flows.campaigns.battery_profile import RunProfile
from dpa4_flows.campaigns.battery_uptake import RunInsertion
from dpa4_flows.campaigns.catalyst_service import RunPourbaix
from dpa4_flows.campaigns.config import campaign_hash, load_campaign
from dpa4_flows.campaigns.context import scene_of
from dpa4_flows.campaigns.run import prepare_run, stored_campaign
from dpa4_flows.compute.plan import NO_NUMBER, Crystal, Property
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.dissolution import Dissolution
from dpa4_flows.properties.registry import property_class, property_names
from dpa4_flows.properties.service import Service
from dpa4_flows.properties.voltage_profile import VoltageProfileDocument
from dpa4_flows.reference.library import ReferencePhase
from dpa4_flows.reference.store import ReferenceStore

TOY = ModelRef(MORSE, dtype="float64")
CONTENTS = {
    "field_response": ("dielectric = 2.0\n[born]\nMg = 2.0", "dielectric = 2.1\n[born]\nMg = 2.0"),
    "": ("one", "another"),
}


@pytest.mark.parametrize("name", property_names())
def test_the_key_of_a_property_holds_what_its_files_say(name: str, tmp_path: Path) -> None:
    kind = property_class(name)
    for field in dataclasses.fields(kind):
        if "files" not in field.metadata:
            continue
        contents = CONTENTS.get(field.name, CONTENTS[""])
        if field.name in ("against", "electrolyte"):
            contents = tuple(layered(metal).to(fmt="cif") for metal in ("Co", "Ni"))
        seen = []
        for place, content in (("a.cif", contents[0]), ("b.cif", contents[0]), ("a.cif", contents[1])):
            (tmp_path / place).write_text(content)
            value = str(tmp_path / place)
            made = kind(**{field.name: (value,) if isinstance(field.default, tuple) else value})
            seen.append(Property.settings(made, TOY))
            assert value not in json.dumps(seen[-1])
        assert seen[0] == seen[1] != seen[2], field.name


def test_no_property_opens_a_file_that_its_key_does_not_know() -> None:
    modules = {inspect.getmodule(property_class(name)) for name in property_names()}
    opened = 0
    for module in modules:
        kinds = [one for one in vars(module).values() if inspect.isclass(one) and issubclass(one, Property)]
        fields = {field.name: field for one in kinds for field in dataclasses.fields(one)}
        for name in re.findall(r"(?:Path|open\w*|read\w*)\(self\.(\w+)", inspect.getsource(module)):
            opened += 1
            known = "files" in fields[name].metadata or fields[name].metadata == NO_NUMBER
            assert known or name == "library", f"{module.__name__}: {name}"
    assert opened >= 5


def test_what_asks_for_a_property_with_a_file_has_another_key_when_that_changes(tmp_path: Path) -> None:
    keys = []
    for content in ("one", "another", "one"):
        (tmp_path / "ions.toml").write_text(content)
        dissolution = Dissolution(ions=str(tmp_path / "ions.toml"))
        keys.append(Service(pourbaix=None, dissolution=dissolution).key(Crystal(rocksalt("Mg")), TOY))
    assert keys[0] == keys[2] != keys[1]


def test_forms_of_the_metal_count_in_profiles_and_in_both_directions() -> None:
    forms = [(rocksalt("Mg"),), (rocksalt("Ca"),)]
    assert len({RunProfile(forms=one).key(Crystal(layered("Co")), TOY) for one in forms}) == 2
    empty = VoltageProfileDocument.model_construct(doubts=[])
    asked = next(RunInsertion(forms=forms[0], n_steps=7)._both_ways(empty, layered("Co")))["profile"].property
    assert isinstance(asked, RunProfile) and asked.forms == forms[0] and asked.n_steps == 7


def test_a_campaign_knows_its_files_by_content_and_needs_them_only_once(tmp_path: Path) -> None:
    layered("Co").to(filename=str(tmp_path / "cathode.cif"))
    tables = {"hull": NO_BUNDLE | {"library": "none"}, "interface": {"against": ["Li", "cathode.cif"]}}
    stages = ["sanity", "relax", "interface"]
    file = written(tmp_path, {"Li2O": antifluorite()}, tables, kind="electrolyte", stages=stages)
    campaign, run = load_campaign(file), tmp_path / "run"
    identity = campaign_hash(campaign, "model", "code")
    prepared = prepare_run(campaign, run)
    hashed = prepared.table.get_meta("campaign_hash")
    copy = Path(prepared.run.campaign.interface.against[1])
    assert prepared.run.campaign.interface.against[0] == "Li"
    assert copy.name == "cathode.cif" and copy.is_relative_to(run)
    layered("Ni").to(filename=str(tmp_path / "cathode.cif"))
    assert campaign_hash(load_campaign(file), "model", "code") != identity
    (tmp_path / "cathode.cif").unlink()
    moved = tmp_path / "moved"
    run.rename(moved)
    again = prepare_run(stored_campaign(moved)[0], moved, stored_inputs=True)
    there = Path(again.run.campaign.interface.against[1])
    assert there.is_relative_to(moved) and "Co" in there.read_text()
    assert again.table.get_meta("campaign_hash") == hashed


def test_what_a_candidate_is_compared_with_are_the_phases_of_the_run_also_when_files_are_gone(tmp_path: Path) -> None:
    store = ReferenceStore.for_model(TOY, Relaxed(rattle=0.0, check_minimum=False), tmp_path / "library")
    peroxide = Structure(Lattice.cubic(4.5), ["Mg", "O", "O"], [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]])
    store.add([ReferencePhase("known", peroxide, "toy")], [])
    hull = NO_BUNDLE | {"library": "library", "competing": ["phases.json"]}
    stages = ["sanity", "relax", "at_rest", "phonons", "modes", "defects"]
    keys = []
    for folder, metals in (("more", ["Ca", "Sr"]), ("one", ["Ca"])):
        rows = [{"id": metal, "structure": rocksalt(metal).as_dict()} for metal in metals]
        (tmp_path / "phases.json").write_text(json.dumps(rows))
        tables = {"hull": hull, "defects": {"dopants": metals}}
        file = written(tmp_path, {"MgO": rocksalt("Mg")}, tables, stages=stages)
        run = prepare_run(load_campaign(file), tmp_path / folder).run
        (tmp_path / "phases.json").unlink()
        scene = scene_of(run, "defects")
        assert scene.stage.computes is not None
        asked = scene.stage.computes.settled(scene)
        crystal = Crystal(rocksalt("Mg"), model=run.model, info=run.model.info())
        keys.append(asked.region.key(crystal, run.model))
    assert asked.key(crystal, run.model) is not None and None not in keys and keys[0] != keys[1]
    requests = next(dataclasses.replace(asked.region, dopant="Ca").plan(crystal))
    rivals = {row.formula: row.key for row in scene.competing.phases(["Ca-Mg-O"])}
    assert {rivals["MgO2"], rivals["CaO"]} <= requests.keys(), "of the library, and of a file"
    water = RunPourbaix.of_scene(scene)
    assert water.key(crystal, run.model) is not None and water.further() == {"H-O"} and not water.prototypes
