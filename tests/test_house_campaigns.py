"""What belongs to one kind of campaign is named in its own files and nowhere else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from dpa4_flows.campaigns.battery import BATTERY
from dpa4_flows.campaigns.catalyst import CATALYST
from dpa4_flows.campaigns.duplicates import DUPLICATES, RELAXED_DUPLICATES
from dpa4_flows.campaigns.funnel import Funnel
from dpa4_flows.campaigns.hull import HULL
from dpa4_flows.campaigns.relaxed import RELAX
from dpa4_flows.campaigns.sanity import SANITY
from dpa4_flows.properties.registry import property_names

FLOWS = Path(__file__).parent.parent / "dpa4_flows"
OWN = (
    "campaigns/battery",
    "properties/electrode",
    "properties/insertion",
    "properties/ion_insertion",
    "makers/battery",
    "properties/oxygen_release",
    "properties/voltage_profile",
    "report/figures_voltage",
    "analysis/electrode",  # its physics
)
LISTS = ("properties/registry.py", "makers/named.py")  # of all properties by name
COMMON = Funnel((SANITY, DUPLICATES, RELAX, RELAXED_DUPLICATES, HULL))


def names_in(tree: ast.Module) -> set[str]:
    """Identifiers, keys and texts that are one word."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)):
                found.add(text)
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                found.add(name)
    return found


def test_no_battery_stage_or_value_is_named_outside_its_files() -> None:
    """But what the profile finds and says, and a flag of the release of oxygen, which are of their properties."""
    stages = set(BATTERY.funnel().names) - set(COMMON.names)
    funnel = Funnel(tuple(stage for stage in BATTERY.stages if stage.name != "profile"))
    values = {name for _, name, _ in funnel.values()} - {name for _, name, _ in COMMON.values()}
    codes = set(funnel.reasons) - set(COMMON.reasons) - {"oxygen_bound_too_strongly"}
    assert {"electrode", "average_voltage", "energy_above_hull_charged", "voltage_too_low"} <= stages | values | codes
    found = {}
    for path in sorted(FLOWS.rglob("*.py")):
        where = str(path.relative_to(FLOWS))
        listed = set(property_names()) if where in LISTS else set()
        named = (stages | values | codes) - listed
        if not where.startswith(OWN) and (named := named & names_in(ast.parse(path.read_text()))):
            found[where] = named
    assert not found


def test_no_code_of_a_catalyst_stage_is_named_outside_its_files() -> None:
    """Its stages carry the names of the properties that they compute, and their values are those of the properties."""
    said = {code for stage in CATALYST.stages[len(COMMON.stages) :] for code in stage.reasons} - set(COMMON.reasons)
    own = {"seam_refused", "nothing_adsorbs", "no_facet_left", "polar_facet", "activity_unknown", "no_surface_energy"}
    assert own <= said
    found = {}
    for path in sorted(FLOWS.rglob("*.py")):
        where = str(path.relative_to(FLOWS))
        if not where.startswith("campaigns/catalyst") and (named := own & names_in(ast.parse(path.read_text()))):
            found[where] = named
    assert not found


@pytest.mark.parametrize("file", ["base.html", "template.html", "macros.html", "script.js"])
def test_the_page_names_no_value_of_a_kind(file: str) -> None:
    text = (FLOWS / "report" / file).read_text()
    values = {name for _, name, _ in BATTERY.funnel().values()} - {name for _, name, _ in COMMON.values()}
    assert not [name for name in values if name in text]


def test_common_stages_import_nothing_of_a_kind() -> None:
    for path in sorted((FLOWS / "campaigns").glob("*.py")):
        for kind in ("battery", "catalyst"):
            if not path.name.startswith(kind):
                assert "import" not in [
                    "import"
                    for node in ast.walk(ast.parse(path.read_text()))
                    if isinstance(node, ast.ImportFrom) and kind in (node.module or "")
                ], path
