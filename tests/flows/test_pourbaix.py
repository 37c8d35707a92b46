"""Pourbaix diagrams: ions move with the error of the model, so that measured dissolution stays measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pymatgen.core import Lattice, Structure
from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry
from typer.testing import CliRunner, Result

from dpa4_core.units import KJ_PER_MOL_TO_EV
from dpa4_flows.analysis.pourbaix import (
    ReferencedIon,
    aqueous_stability,
    check_ions,
    pourbaix_diagram,
    pourbaix_entries,
    reference_shifts,
)
from dpa4_flows.analysis.thermodynamics import ThermodynamicsError, gibbs_entries
from dpa4_flows.cli import app
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.engines import run_local
from dpa4_flows.makers.named import PourbaixMaker
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.pourbaix import Pourbaix, PourbaixDocument, diagram_of
from dpa4_flows.reference.ions import BUNDLED, IonFileError, read_ions
from dpa4_flows.report.pourbaix_plot import diagrams

ZINC = """
source = "D. D. Wagman et al., The NBS Tables, J. Phys. Chem. Ref. Data 11, Suppl. 2 (1982)"

[[ion]]
formula = "Zn[2+]"
gibbs = -147.06
reference_solid = "ZnO"
reference_gibbs = -318.30

[[ion]]
formula = "Zn(OH)4[2-]"
gibbs = -858.52
reference_solid = "ZnO"
reference_gibbs = -318.30
"""
ZNO = -318.30 * KJ_PER_MOL_TO_EV  # eV, measured
FAST = ("-m", "toy_potentials:ShortOMatMorse", "--fmax", "0.05", "--threads", "1", "--no-mp")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def ions(tmp_path: Path) -> list[ReferencedIon]:
    (tmp_path / "zinc.toml").write_text(ZINC)
    return read_ions(tmp_path / "zinc.toml")


def solids(error: float = 0.0, **more: float) -> list[ComputedEntry]:
    """Gibbs energies of formation in eV per formula; ``error`` is that of ZnO."""
    energies = {"Zn": 0.0, "O2": 0.0, "H2": 0.0, "ZnO": ZNO + error, **more}
    return [ComputedEntry(formula, energy, entry_id=formula) for formula, energy in energies.items()]


def stability(
    entries: list[ComputedEntry], ions: list[ReferencedIon], ph: list[float], potential: list[float]
) -> tuple[Any, tuple[tuple[str, ...], ...]]:
    """Decomposition energies of ZnO [potential, pH] and the stable species."""
    aqueous = pourbaix_entries(entries, ions)
    phase = next(entry for entry in aqueous if entry.entry_id == "ZnO")
    found = aqueous_stability(phase, pourbaix_diagram(phase, aqueous), ph=ph, potential=potential)
    return found.decomposition_energy, found.products


@pytest.mark.parametrize("error", [0.0, 0.4, -0.3])
def test_oxide_dissolves_at_the_measured_ph_whatever_the_error_of_the_model(
    ions: list[ReferencedIon], error: float
) -> None:
    """ZnO + 2 H+ = Zn2+ + H2O with ΔG = -65.9 kJ/mol: at 1e-6 mol/L in balance at pH (11.54 + 6) / 2 = 8.77."""
    energy, products = stability(solids(error), ions, [8.70, 8.84], [0.0])
    assert products == (("Zn[+2]", "ZnO(s)"),)
    assert energy[0, 1] == 0
    at_zero, _ = stability(solids(error), ions, [0.0], [0.0])
    per_atom = 2 * 8.77 * 0.0591 / 2  # 2 H+ for a formula of two atoms
    assert at_zero[0, 0] == pytest.approx(per_atom, abs=3e-3)


def test_metal_dissolves_at_its_measured_potential(ions: list[ReferencedIon]) -> None:
    """Zn = Zn2+ + 2 e-: -0.762 V at 1 mol/L, lower by 6 × 0.0591 / 2 V at 1e-6 mol/L."""
    _, products = stability(solids(), ions, [2.0], [-0.95, -0.93])
    assert products == (("Zn(s)",), ("Zn[+2]",))


def test_shift_is_that_of_the_reference_solid(ions: list[ReferencedIon]) -> None:
    assert reference_shifts(solids(0.4), ions)["ZnO"] == pytest.approx(0.4)
    found = {e.entry_id: e.uncorrected_energy for e in pourbaix_entries(solids(0.4), ions)}
    assert found["Zn[2+]"] == pytest.approx(-147.06 * KJ_PER_MOL_TO_EV + 0.4)
    assert found["ZnO"] == pytest.approx(ZNO + 0.4)
    doubled = [ReferencedIon("Zn[2+]", -147.06, "Zn2O2", 2 * -318.30)]
    moved = {e.entry_id: e.uncorrected_energy for e in pourbaix_entries(solids(0.4), doubled)}
    assert moved["Zn[2+]"] == pytest.approx(found["Zn[2+]"])


def test_what_is_missing_is_said(ions: list[ReferencedIon]) -> None:
    check_ions(frozenset(("Zn", "O", "H")), ions)
    with pytest.raises(ThermodynamicsError, match="no ion of Fe is known"):
        check_ions(frozenset(("Fe", "Zn", "O")), ions)
    with pytest.raises(ThermodynamicsError, match="besides O and H"):
        check_ions(frozenset("O"), ions)
    without = [entry for entry in solids() if entry.entry_id != "ZnO"]
    with pytest.raises(ThermodynamicsError, match=r"reference solid ZnO of Zn\[2\+\] is not among the competing"):
        pourbaix_entries(without, ions)
    with pytest.raises(ThermodynamicsError, match="no reference for H"):
        pourbaix_entries([entry for entry in solids() if entry.entry_id != "H2"], ions)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[ion]", "is not valid TOML"),
        ("", "holds no ions"),
        ("[[ion]]\nformula = 'Zn[2+]'", "needs reference_solid, a formula"),
        (ZINC.replace("-147.06", "'low'"), "ion 1 .* needs gibbs, a number in kJ/mol"),
        (ZINC.replace("gibbs = -147.06", "gibbs = -147.06\nenergy = 1"), "unknown key 'energy'"),
        (ZINC.replace('"ZnO"', '"FeO"'), "one element besides O and H, which its reference solid FeO shares"),
    ],
)
def test_file_of_ions_that_cannot_be_used_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(IonFileError, match=words):
        read_ions(tmp_path / "wrong.toml")
    with pytest.raises(IonFileError, match=r"gone.toml does not exist"):
        read_ions(tmp_path / "gone.toml")


def test_bundled_ions_have_the_standard_potentials_of_handbooks() -> None:
    """Those of metals that dissolve as simple ions: P. Vanýsek, CRC Handbook of Chemistry and Physics; V."""
    handbook = {"Ag[+]": 0.800, "Cu[2+]": 0.342, "Pd[2+]": 0.93, "Pt[2+]": 1.18, "Ni[2+]": -0.257, "Zn[2+]": -0.762}
    handbook |= {"Au[3+]": 1.498, "Rh[3+]": 0.758, "Ir[3+]": 1.156, "Co[2+]": -0.28, "Fe[2+]": -0.447, "Al[3+]": -1.662}
    known = {ion.formula: ion for ion in read_ions(BUNDLED)}
    for formula, volts in handbook.items():
        charge = int(formula.partition("[")[2].strip("+]") or 1)
        assert known[formula].gibbs_kj_mol * KJ_PER_MOL_TO_EV / charge == pytest.approx(volts, abs=0.03), formula
    assert all(len(ion.source) > 20 for ion in known.values())


# ---- the command


def dpa4(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


@pytest.fixture
def oxide(tmp_path: Path, ions: list[ReferencedIon], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Zinc oxide; a working directory and a cache of its own."""
    monkeypatch.setenv("DPA4_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    blende = Structure.from_spacegroup("F-43m", Lattice.cubic(4.6), ["Zn", "O"], [[0] * 3, [0.25] * 3])
    blende.get_primitive_structure().to(filename="ZnO.cif")
    return tmp_path / "ZnO.cif"


def test_command_tells_energies_products_and_shifts(oxide: Path) -> None:
    command = ("pourbaix", oxide, "--ions", "zinc.toml", *FAST)
    result = dpa4(*command, "--ph", "0", "--ph", "12", "--potential", "1", "--plot", "water.html", "--json")
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)
    row = found["pourbaix"]
    ((acid, base),) = row["decomposition_energy"]
    assert base == 0 and row["lowest_energy"] is None, "a 0 against nothing is no number"
    assert row["highest_energy"] == acid
    assert acid == pytest.approx(8.77 * 0.0591, abs=3e-3)  # as measured, with a toy that misses ZnO by 2 eV
    assert row["products"] == [["Zn[+2]", "ZnO(s)"]]
    assert row["sources"] == ["D. D. Wagman et al., The NBS Tables, J. Phys. Chem. Ref. Data 11, Suppl. 2 (1982)"]
    assert set(row["reference_shifts"]) == {"ZnO"}
    page = Path("water.html").read_text()
    assert "Stability in water" in page and "Zn[+2]" in page
    assert row["completeness"]["grade"] == "no_competitor"  # among solids, nothing but elements and the oxide itself
    caveat = "ZnO: no known competitor, no known compound, no survey of phases in H-O-Zn"
    said = [(reason["code"], reason["sentence"]) for reason in row["warnings"]]
    assert any(code == "no_solid_competes" and text.startswith(caveat) for code, text in said) and caveat in page
    other = json.loads(dpa4(*command, "--corrections", "MP2020", "--plot", "water.html", "--json").stdout)
    other = other[0]["pourbaix"]["warnings"]
    asked = next(one["sentence"] for one in other if one["sentence"].startswith("corrections MP2020 were asked for"))
    assert asked in Path("water.html").read_text()
    table = dpa4(*command)
    assert table.exit_code == 0, table.output
    bundled = json.loads(dpa4("pourbaix", oxide, *FAST, "--ph", "0", "--potential", "1", "--json").stdout)
    [[without]] = bundled[0]["pourbaix"]["decomposition_energy"]
    assert without == pytest.approx(acid, abs=2e-3)  # the file is optional
    assert "unknown: ZnO(s)" in dpa4(*command, "--ph", "12", "--potential", "1").stdout
    assert "pH 14" in table.stdout and "model minus measured" in table.stdout


def test_maker_and_property_answer_as_the_command(oxide: Path, tmp_path: Path) -> None:
    """Also where the file of ions is named beside the job, and with steam, a gas of measured Gibbs energy."""
    relaxation = Relaxed(fmax=0.05, rattle=0.02)
    maker = PourbaixMaker(
        model=ModelRef("toy_potentials:ShortOMatMorse"),
        property=Pourbaix(relaxation=relaxation, ions="zinc.toml", ph=(0.0, 12.0), potential=(1.0,)),
    )
    flow = maker.make([Structure.from_file(oxide)], str(tmp_path / "water.sqlite"))
    output = run_local(flow, tmp_path / "jobs")[flow.output.uuid][1].output
    (document,) = output.documents
    result = dpa4("pourbaix", oxide, "--ions", "zinc.toml", *FAST, "--ph", 0, "--ph", 12, "--potential", 1, "--json")
    row = json.loads(result.stdout)[0]["pourbaix"]
    assert document["decomposition_energy"] == [pytest.approx(line) for line in row["decomposition_energy"]]
    assert document["products"] == row["products"] and output.n_failed == 0
    stored = PourbaixDocument.model_validate(document)
    phase, diagram = diagram_of(stored)  # stored documents can be drawn
    assert [block.title for block in diagrams({"it": stored})] == ["ZnO (it)"]
    assert diagram.get_decomposition_energy(phase, 12, 1.0) == pytest.approx(0, abs=1e-9)


def test_tabulated_gases_have_gibbs_energies_at_round_temperatures() -> None:
    box = Lattice.cubic(8)
    steam = Structure(box, ["H", "H", "O"], [[0.4, 0.5, 0.5], [0.6, 0.5, 0.5], [0.5, 0.55, 0.5]])
    pure = [Structure(box, [symbol] * 2, [[0.45, 0.5, 0.5], [0.55, 0.5, 0.5]]) for symbol in "HO"]
    entries = [ComputedStructureEntry(s, -3.0 * len(s), entry_id=s.formula) for s in (steam, *pure)]
    found = gibbs_entries(entries, 300.0)
    assert min(entry.energy_per_atom for entry in found) < 0


def test_command_refuses_what_it_cannot_answer(oxide: Path) -> None:
    wrong = dpa4("pourbaix", oxide, "--ions", "zinc.toml", "--plot", "water.png", *FAST)
    assert wrong.exit_code == 1
    assert "end the name of the plot in .html" in wrong.stderr
    Structure(Lattice.cubic(4.2), ["Mg", "O"], [[0] * 3, [0.5] * 3]).to(filename="MgO.cif")
    other = dpa4("pourbaix", "MgO.cif", "--ions", "zinc.toml", *FAST)
    assert other.exit_code == 1
    assert "no ion of Mg is known" in other.stderr
    raw = dpa4("pourbaix", oxide, "--ions", "zinc.toml", "--corrections", "none", *FAST)
    assert raw.exit_code == 1
    assert "need corrections before they mean anything" in raw.stderr
