from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import pytest
from monty.json import MontyDecoder, MontyEncoder
from toy_campaign import MORSE, STAGES, write_campaign

from dpa4_flows.analysis.ions import ION_CHARGES
from dpa4_flows.bundled import CAMPAIGN_FILE, bundled_campaigns
from dpa4_flows.campaigns.bundled import copy_campaign, find_campaign
from dpa4_flows.campaigns.config import campaign_hash, campaign_of, input_checksums, load_campaign
from dpa4_flows.campaigns.context import Screening
from dpa4_flows.campaigns.sections import ConfigError
from dpa4_flows.model_ref import ModelRef

DATA = Path(__file__).parent.parent / "data" / "campaigns"
MINIMAL = '[campaign]\nname = "x"\ncandidates = ["candidates.json"]\n'


def _refusal(tmp_path: Path, text: str) -> str:
    """The sentence that refuses a campaign file."""
    (tmp_path / "candidates.json").write_text("[]")
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_campaign(path)
    sentence = str(caught.value)
    assert sentence.startswith(str(path)) or str(path) in sentence
    assert "\n" not in sentence
    return sentence


def test_defaults_make_a_short_file_enough(tmp_path: Path) -> None:
    (tmp_path / "candidates.json").write_text("[]")
    path = tmp_path / "c.toml"
    path.write_text(MINIMAL)
    campaign = load_campaign(path)
    assert campaign.model.name == "dpa4-neo"
    assert campaign.campaign.working_ion == "Li"
    assert list(campaign.objectives) == ["usable_energy", "energy_above_hull", "energy_above_hull_charged"]


def test_scales_that_a_file_does_not_name_are_those_of_the_quantity(tmp_path: Path) -> None:
    (tmp_path / "candidates.json").write_text("[]")
    path = tmp_path / "c.toml"
    path.write_text(MINIMAL)
    scaled = {name: declared for _, name, declared in load_campaign(path).funnel.values() if declared.scale}
    assert len(scaled) == 15
    for name, declared in scaled.items():
        path.write_text(f"{MINIMAL}[ranking]\n{name} = {{ high = 9999.0 }}\n")
        [objective] = load_campaign(path).objectives.values()
        assert (objective.low, objective.high, objective.goal) == (declared.scale[0], 9999.0, declared.goal)
    path.write_text(f"{MINIMAL}[ranking]\nenergy_grav = {{ goal = 'max', high = 100.0 }}\n")
    with pytest.raises(ConfigError, match="low 300 is not below high 100"):
        load_campaign(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MINIMAL + "[relax]\nfmaks = 0.1\n", "unknown key 'fmaks' in [relax]; did you mean 'fmax'?"),
        (MINIMAL + "[relux]\nfmax = 0.1\n", "unknown key 'relux' in the top level; did you mean 'relax'?"),
        (MINIMAL + "[engine]\nzzz = 1\n", "choose from chunk_size, max_atoms_per_batch"),
        (MINIMAL + "[ranking]\nenergy_grav = { gaol = 'max' }\n", "did you mean 'goal'?"),
        (MINIMAL + "[ranking]\nenergy_grv = { goal = 'max' }\n", "did you mean 'energy_grav'?"),
        (MINIMAL + "[ranking]\nenergy_grav = { goal = 'max', weight = 0 }\n", "no value has a weight"),
        (MINIMAL + "[relax]\nfmax = -1\n", "relax.fmax = -1 should be greater than 0"),
        (MINIMAL + "[relax]\nfmax = 'small'\n", "relax.fmax = 'small' should be a valid number"),
        (MINIMAL + "[relax]\nfmax = true\n", "relax.fmax = True should be a valid number"),
        (MINIMAL + "[engine]\nchunk_size = '5'\n", "engine.chunk_size = '5' should be a valid integer"),
        (MINIMAL + "[relax]\nmax_steps = 1.5\n", "relax.max_steps = 1.5 should be a valid integer"),
        (
            MINIMAL + "[hull]\ncorrections = 'PBE'\n",
            "hull.corrections: 'PBE' is not allowed; expected 'auto', 'none', 'MP2020', 'OMat24' or the .yaml file",
        ),
        (MINIMAL + "[electrode]\nmin_voltage = 5\n", "electrode.average_voltage: min 5 is not below max 4.5"),
        (MINIMAL + "[hull]\ncompeting = ['gone.json']\n", "gone.json does not exist"),
        (MINIMAL + "[model]\nname = 'gone.pt'\n", "gone.pt does not exist"),
        (MINIMAL + "working_ion = 'H'\n", "campaign.working_ion: 'H' is not allowed"),
        (MINIMAL + "[electrode]\naverage_volt = { min = 2 }\n", "did you mean 'average_voltage'?"),
        (MINIMAL + "[electrode]\naverage_voltage = { mni = 2 }\n", "did you mean 'min'?"),
        (MINIMAL + "[electrode]\naverage_voltage = 2\n", "average_voltage = 2 should be a table such as { max = 1.0 }"),
        (MINIMAL + "[hull]\ndecomposition = { max = 1 }\n", "unknown key 'decomposition' in [hull]"),
        (MINIMAL + "[ranking]\ncapacity_bound = {}\n", "key ranking.capacity_bound.goal is missing"),
        (MINIMAL + "stages = ['sanity', 'relaxx']\n", "campaign.stages: unknown stage 'relaxx'; did you mean 'relax'?"),
        (MINIMAL + "stages = 'sanity'\n", "campaign.stages = 'sanity' should be a list"),
        (MINIMAL + "stages = 3\n", "campaign.stages = 3 should be a list"),
        (MINIMAL + "stages = []\n", "campaign.stages is empty"),
        (MINIMAL + "stages = ['relax', 'relax']\n", "campaign.stages names 'relax' twice"),
        (MINIMAL + "stages = ['hull']\n", "'hull' needs 'relax', which is not among the stages; put 'relax' before it"),
        (MINIMAL + "stages = ['hull', 'relax']\n", "'hull' needs 'relax', which comes after it"),
        (
            MINIMAL + "stages = ['relax']\n[hull]\nbundled = false\n",
            "table [hull] is about the stage 'hull', which is not in campaign.stages",
        ),
        (
            MINIMAL + "stages = ['relax', 'hull']\n[ranking]\nenergy_grav = {}\n",
            "ranking.energy_grav is about the stage 'electrode', which is not in campaign.stages",
        ),
        (MINIMAL + "stages = ['os:getcwd']\n", "campaign.stages: 'os:getcwd' is not a stage"),
        (MINIMAL + "kind = 'no.such:KIND'\n", "campaign.kind: 'no.such:KIND' cannot be imported"),
        (MINIMAL + "kind = 'batery'\n", "campaign.kind = 'batery' is unknown; did you mean 'battery'?"),
        ('[campaign]\nname = "x"\n', "key campaign.candidates is missing"),
        ('[campaign]\nname = "a/b"\ncandidates = ["candidates.json"]\n', "name 'a/b' must consist of letters"),
        ("[campaign\n", "is not valid TOML"),
    ],
)
def test_mistake_is_one_sentence_with_file_and_key(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in _refusal(tmp_path, text)


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone.toml does not exist"):
        load_campaign(tmp_path / "gone.toml")
    with pytest.raises(ConfigError, match="is a folder"):
        load_campaign(tmp_path)


@pytest.mark.parametrize("ion", ION_CHARGES)
def test_every_ion_of_the_analysis_can_be_screened(tmp_path: Path, ion: str) -> None:
    path = write_campaign(tmp_path, campaign={"working_ion": ion})
    assert load_campaign(path).campaign.working_ion == ion


UPGRADED = {
    "relax": {"volume_change_percent": {"max": 30.0, "otherwise": "flag"}, "check_minimum": True},
    "relaxed_duplicates": {"window": 0.01},
    "hull": {"energy_above_hull": {"max": 0.05, "otherwise": "reject"}, "library": "cache"},
    "relax_charged": {"check_minimum": False},
    "charged_hull": {"energy_above_hull_charged": {"max": 0.2, "otherwise": "reject"}},
    "electrode": {
        "average_voltage": {"min": 2.5, "max": 4.5, "otherwise": "reject"},
        "capacity_grav": {"min": 100.0, "otherwise": "reject"},
        "volume_change_percent": {"max": 10.0, "otherwise": "flag"},
    },
}


def test_campaign_file_of_before_means_what_it_meant(tmp_path: Path) -> None:
    """A frozen copy of the bundled file as it was when each limit had a name of its own."""
    text = (DATA / "battery_1.toml").read_text()
    (tmp_path / "structures").mkdir()
    for name in ("candidates", "competing"):
        (tmp_path / "structures" / f"{name}.json").write_text("[]")
    path = tmp_path / "campaign.toml"
    path.write_text(text)
    campaign = load_campaign(path)
    tables = campaign.to_dict()
    for table, keys in UPGRADED.items():
        assert {key: tables[table][key] for key in keys} == keys
    assert campaign.funnel.names == STAGES and next(iter(campaign.objectives)) == "energy_grav"
    path.write_text(text.replace("max_voltage = 4.5", "max_voltage = 5.0").replace("min_voltage = 2.5\n", ""))
    voltage = load_campaign(path).electrode.average_voltage
    assert (voltage.min, voltage.max) == (2.5, 5.0)  # what is not named was the default


def test_stages_can_be_left_out_and_reordered(tmp_path: Path) -> None:
    (tmp_path / "candidates.json").write_text("[]")
    path = tmp_path / "c.toml"
    path.write_text(MINIMAL + "stages = ['relax', 'delithiate', 'relax_charged', 'electrode', 'sanity']\n")
    campaign = load_campaign(path)
    assert [stage.name for stage in campaign.funnel.computing] == ["relax", "relax_charged", "electrode"]
    assert list(campaign.objectives) == ["energy_grav"]  # of the default ones that a stage finds
    assert campaign.competition is not None  # the metal of the ion is relaxed like the competing phases
    path.write_text(MINIMAL + "stages = ['sanity', 'relax']\n[relax]\nenergy_per_atom = { max = 0 }\n")
    campaign = load_campaign(path)
    assert campaign.competition is None and campaign.objectives == {}
    assert campaign.relax.energy_per_atom.otherwise == "reject"
    assert campaign_of(campaign.to_dict()) == campaign


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_campaign(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    campaign = load_campaign(path.relative_to(tmp_path))
    assert campaign.campaign.candidates == [str(tmp_path / "here" / "structures" / "candidates.json")]


def test_hash_follows_content_and_not_places(tmp_path: Path) -> None:
    path = write_campaign(tmp_path / "a")
    first = load_campaign(path)
    identity = campaign_hash(first, "sha", "1")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert campaign_hash(load_campaign(tmp_path / "b" / "campaign.toml"), "sha", "1") == identity
    assert (
        campaign_hash(load_campaign(write_campaign(tmp_path / "a", engine={"chunk_size": 7})), "sha", "1") == identity
    )

    assert campaign_hash(first, "other", "1") != identity
    assert campaign_hash(first, "sha", "2") != identity
    assert campaign_hash(load_campaign(write_campaign(tmp_path / "a", relax={"fmax": 0.04})), "sha", "1") != identity
    structures = tmp_path / "b" / "structures" / "competing.json"
    structures.write_text(structures.read_text() + " ")
    assert campaign_hash(load_campaign(tmp_path / "b" / "campaign.toml"), "sha", "1") != identity


def test_run_survives_serialisation_as_jobs_do_it(tmp_path: Path) -> None:
    campaign = load_campaign(write_campaign(tmp_path))
    run = Screening(table=str(tmp_path / "t.sqlite"), model=ModelRef(MORSE), campaign=campaign, corrections="none")
    again = MontyDecoder().decode(MontyEncoder().encode(run))
    assert again == run
    assert campaign_of(campaign.to_dict()) == campaign


def test_job_on_another_machine_needs_none_of_the_files(tmp_path: Path) -> None:
    model = tmp_path / "model.pt"
    model.touch()
    campaign = load_campaign(write_campaign(tmp_path, model={"name": "model.pt"}))
    run = Screening(table=str(tmp_path / "t.sqlite"), model=ModelRef(MORSE), campaign=campaign, corrections="none")
    text, identity = MontyEncoder().encode(run), campaign_hash(campaign, "sha", "1")
    inputs = input_checksums(campaign)
    shutil.rmtree(tmp_path / "structures")
    model.unlink()
    assert MontyDecoder().decode(text) == run
    assert campaign_of(campaign.to_dict()) == campaign
    assert campaign_hash(campaign, "sha", "1", inputs) == identity


def test_bundled_campaign_is_found_copied_and_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "battery" in bundled_campaigns()
    file, runs = find_campaign("battery")
    assert file.name == CAMPAIGN_FILE
    assert runs == tmp_path / "runs"
    written = copy_campaign("battery", tmp_path / "mine")
    assert tmp_path / "mine" / "README.md" in written
    assert load_campaign(tmp_path / "mine" / CAMPAIGN_FILE).campaign.kind == "battery"
    with pytest.raises(ConfigError, match="not an empty folder"):
        copy_campaign("battery", tmp_path / "mine")
    with pytest.raises(ConfigError, match="no bundled campaign 'batteries'"):
        copy_campaign("batteries", tmp_path / "other")
    assert find_campaign("mine") == (Path("mine") / CAMPAIGN_FILE, tmp_path / "mine" / "runs")
    with pytest.raises(ConfigError, match="not a bundled campaign"):
        find_campaign("gone.toml")


def test_every_threshold_of_the_bundled_campaign_has_its_reason() -> None:
    """A number without a reason is a number that nobody dares to change."""
    for folder in bundled_campaigns().values():
        lines = (folder / CAMPAIGN_FILE).read_text().splitlines()
        assert tomllib.loads("\n".join(lines))
        for number, line in enumerate(lines):
            key, mark, _ = line.partition("=")
            if mark and not line.startswith("#") and key.strip() not in ("name", "kind"):
                assert "#" in line or lines[number - 1].startswith("#"), f"{folder}: {line}"
