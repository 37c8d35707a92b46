"""The page that decides on models and corrections says what the code says, and others quote it."""

import re
from pathlib import Path

import pytest
from pymatgen.core import Composition

from dpa4_core.model.registry import REGISTRY
from dpa4_flows.analysis.frames import applies_u, seam_problem
from dpa4_flows.analysis.hull_warnings import system_warnings
from dpa4_flows.analysis.levels import COBALT, DPA4_NEO_SHA256, OTHER_VOLTAGE_ERROR, SCHEME_ERRORS, VOLTAGE_ERRORS
from dpa4_flows.report.caveats import theory_caveats

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "levels-of-theory.md").read_text(encoding="utf-8")
PBE_U = "PBE; PBE+U where O or F meets V, Cr, Mn, Fe, Co, Ni, Mo or W (PBE_54)"


def cells(first: str) -> list[str]:
    """Cells of the row that starts with ``first``."""
    [line] = [line for line in PAGE.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("scheme", SCHEME_ERRORS)
def test_page_has_the_errors_of_every_scheme(scheme: str) -> None:
    assert [float(cell) for cell in cells(scheme)[1:]] == list(SCHEME_ERRORS[scheme])


def test_page_has_the_error_bars_of_every_couple() -> None:
    assert {metal: float(cells(metal)[1]) for metal in VOLTAGE_ERRORS} == VOLTAGE_ERRORS
    assert float(cells("others")[1]) == OTHER_VOLTAGE_ERROR and DPA4_NEO_SHA256[:12] in PAGE


def test_cobalt_is_decided_once() -> None:
    """Who chooses corrections, or speaks of those of cobalt, names the page, and says the same."""
    chooses = re.compile(
        r'^corrections = "auto"|OMat24.*\bCo\b|\bCo\b.*OMat24|Cobalt.*corrections|\+U need', re.MULTILINE
    )
    files = [*ROOT.glob("workflows/*/*.toml"), *ROOT.glob("workflows/*/README.md"), *ROOT.glob("docs/*.md")]
    texts = {file: file.read_text(encoding="utf-8") for file in files if file.name != "levels-of-theory.md"}
    speaking = {file: text for file, text in texts.items() if chooses.search(text)}
    assert len(speaking) >= 8 and all("levels-of-theory.md" in text for text in speaking.values()), speaking.keys()
    assert any(COBALT in w for w in system_warnings(["Co", "Li", "O"], PBE_U, "OMat24"))
    for elements, scheme in ((["Co", "Ni"], "OMat24"), (["Ni", "O"], "OMat24"), (["Co", "O"], "MP2020")):
        assert not any(COBALT in w for w in system_warnings(elements, PBE_U, scheme))


def test_a_model_that_says_that_it_has_no_plus_u_is_none_with_it() -> None:
    """Or the models that are named for oxygen on nickel would refuse it as well."""
    for entry in REGISTRY.values():
        assert applies_u(entry.level_of_theory) == ("MatPES" not in entry.level_of_theory), entry.name
        refused = seam_problem(Composition("Ni16"), {"O": 1}, entry.level_of_theory)
        assert (refused is None) == ("MatPES" in entry.level_of_theory), entry.name
    assert applies_u("PBE + U") and applies_u(PBE_U) and applies_u("PBE+U (no +U for sulfides)")
    for level in ("PBE without +U", "PBE (no PBE+U)", "PBE, not PBE + U", "PBE"):
        assert not applies_u(level)
        assert not any("PBE+U" in sentence for sentence in theory_caveats(level, "")), "caveats read it the same way"
    assert theory_caveats("PBE + U", "") == theory_caveats("PBE+U", "") and len(theory_caveats("PBE+U", "")) == 3
