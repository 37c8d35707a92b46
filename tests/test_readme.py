"""What the README shows must run as it stands."""

import re
from pathlib import Path

import pytest
from jobflow import Flow

from dpa4_flows.bundled import bundled_campaigns
from dpa4_flows.cli.app import Dpa4Group
from dpa4_flows.properties.registry import property_names

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
SHELL = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.network
def test_core_example(neo_path, capsys):
    exec(compile(PYTHON[0], "README.md", "exec"), {})  # the example is ours
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if " True " in line]) == 2  # both relaxations converged
    assert float(lines[-1]) == pytest.approx(-10.85, abs=0.05)


@pytest.mark.network
def test_example_of_functions_prints_a_table(neo_path, capsys):
    exec(compile(PYTHON[1], "README.md", "exec"), {})
    shown = capsys.readouterr().out
    assert "Cu" in shown and "Al" in shown


def test_atomate2_example_builds_a_flow():
    scope = {}
    exec(compile(PYTHON[2], "README.md", "exec"), scope)
    assert isinstance(scope["flow"], Flow)
    assert len(scope["flow"].jobs) > 2


def test_commands_exist():
    used = set(re.findall(r"^dpa4 ([\w-]+)", "\n".join(SHELL), flags=re.MULTILINE))
    names = {name.replace("_", "-") for name in property_names()}
    assert used and used <= {*Dpa4Group.commands_by_name, *names}
    assert set(re.findall(r"dpa4 screen (\w+)$", "\n".join(SHELL), flags=re.MULTILINE)) <= set(bundled_campaigns())
    assert set(bundled_campaigns()) == {"battery", "catalyst", "electrolyte", "semiconductor"}


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_set_up_commands_use_files_of_the_repository():
    main, test = SHELL[0], SHELL[1]
    assert "-c constraints.txt" in main and "-c constraints.txt" in test
    pins = (ROOT / "constraints.txt").read_text().split()
    assert all(re.fullmatch(r"[\w.\-]+==[\w.\-+]+", pin) for pin in pins)
    assert "torch==2.13.0" in pins
