from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import pytest
from monty.json import MontyDecoder, MontyEncoder
from toy_campaign import MORSE, write_campaign

from dpa4_flows.analysis.ions import ION_CHARGES
from dpa4_flows.bundled import CAMPAIGN_FILE, bundled_campaigns
from dpa4_flows.campaigns.battery import BatteryRun
from dpa4_flows.campaigns.bundled import copy_campaign, find_campaign
from dpa4_flows.campaigns.config import (
    BatteryCampaign,
    ConfigError,
    RankingSection,
    campaign_hash,
    input_checksums,
    load_campaign,
)
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.quantities import QUANTITIES

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
    assert list(campaign.ranking.objectives) == ["energy_grav", "energy_above_hull", "energy_above_hull_charged"]


def test_scales_that_a_file_does_not_name_are_those_of_the_quantity(tmp_path: Path) -> None:
    (tmp_path / "candidates.json").write_text("[]")
    path = tmp_path / "c.toml"
    for name in RankingSection.model_fields:
        path.write_text(f"{MINIMAL}[ranking]\n{name} = {{ goal = 'max', high = 9999.0 }}\n")
        [objective] = load_campaign(path).ranking.objectives.values()
        scale = QUANTITIES[name].scale
        assert scale is not None and (objective.low, objective.high) == (scale[0], 9999.0)
    path.write_text(f"{MINIMAL}[ranking]\nenergy_grav = {{ goal = 'max', high = 100.0 }}\n")
    with pytest.raises(ConfigError, match="low 300 is not below high 100"):
        load_campaign(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MINIMAL + "[relax]\nfmaks = 0.1\n", "unknown key 'fmaks' in [relax]; did you mean 'fmax'?"),
        (MINIMAL + "[relux]\nfmax = 0.1\n", "unknown key 'relux' in the top level; did you mean 'relax'?"),
        (MINIMAL + "[engine]\nzzz = 1\n", "valid keys are chunk_size, max_atoms_per_batch"),
        (MINIMAL + "[ranking]\nenergy_grav = { gaol = 'max' }\n", "did you mean 'goal'?"),
        (MINIMAL + "[ranking]\nenergy_grv = { goal = 'max' }\n", "did you mean 'energy_grav'?"),
        (MINIMAL + "[ranking]\nenergy_grav = { goal = 'max', weight = 0 }\n", "no property has a weight"),
        (MINIMAL + "[relax]\nfmax = -1\n", "relax.fmax = -1 should be greater than 0"),
        (MINIMAL + "[relax]\nfmax = 'small'\n", "relax.fmax = 'small' should be a valid number"),
        (MINIMAL + "[relax]\nfmax = true\n", "relax.fmax = True should be a valid number"),
        (MINIMAL + "[engine]\nchunk_size = '5'\n", "engine.chunk_size = '5' should be a valid integer"),
        (MINIMAL + "[relax]\nmax_steps = 1.5\n", "relax.max_steps = 1.5 should be a valid integer"),
        (
            MINIMAL + "[hull]\ncorrections = 'PBE'\n",
            "hull.corrections: 'PBE' is not allowed; expected 'auto', 'none', 'MP2020', 'OMat24' or the .yaml file",
        ),
        (MINIMAL + "[electrode]\nmin_voltage = 5\n", "min_voltage 5.0 V is not below max_voltage 4.5 V"),
        (MINIMAL + "[hull]\ncompeting = ['gone.json']\n", "gone.json does not exist"),
        (MINIMAL + "[model]\nname = 'gone.pt'\n", "gone.pt does not exist"),
        (MINIMAL + "working_ion = 'H'\n", "campaign.working_ion: 'H' is not allowed"),
        (MINIMAL + "kind = 'batery'\n", "campaign.kind = 'batery' is unknown; choose from ['battery']"),
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
    run = BatteryRun(table=str(tmp_path / "t.sqlite"), model=ModelRef(MORSE), campaign=campaign, corrections="none")
    again = MontyDecoder().decode(MontyEncoder().encode(run))
    assert again == run
    assert BatteryCampaign.model_validate(campaign.model_dump(mode="json")) == campaign


def test_job_on_another_machine_needs_none_of_the_files(tmp_path: Path) -> None:
    model = tmp_path / "model.pt"
    model.touch()
    campaign = load_campaign(write_campaign(tmp_path, model={"name": "model.pt"}))
    run = BatteryRun(table=str(tmp_path / "t.sqlite"), model=ModelRef(MORSE), campaign=campaign, corrections="none")
    text, identity = MontyEncoder().encode(run), campaign_hash(campaign, "sha", "1")
    inputs = input_checksums(campaign)
    shutil.rmtree(tmp_path / "structures")
    model.unlink()
    assert MontyDecoder().decode(text) == run
    assert BatteryCampaign.model_validate(campaign.model_dump(mode="json")) == campaign
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
