"""What a stored result says of the code that made it, and what becomes of it when its science is mended."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from pymatgen.core import Structure
from typer.testing import CliRunner, Result

from dpa4_core.relax import Relax, RelaxOptions, Static
from dpa4_core.version import code_version
from dpa4_flows.cli import app
from dpa4_flows.compute.driver import Counts, compute
from dpa4_flows.compute.plan import Ask, Crystal, Plan, PlanError, Property, checked, marked, mended, versions_of
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.schemas import AnswerDocument, Document
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.chemical_potentials import ChemicalPotentials
from dpa4_flows.properties.equation_of_state import EquationOfState
from dpa4_flows.properties.hull import Hull
from dpa4_flows.properties.registry import property_class, property_names
from dpa4_flows.properties.windows import ElectrochemicalWindows
from dpa4_flows.store.table import ResultsError, ResultsTable

MORSE = ModelRef("dpa4_core.testing:MorsePotential")


class SquashDocument(AnswerDocument):
    cost: float | None = None


@dataclass(frozen=True)
class Squash(Property[SquashDocument]):
    """Energy of a crystal whose cell is pressed together."""

    name: ClassVar[str] = "squash"
    document: ClassVar[type[Document]] = SquashDocument
    strain: float = 0.02

    def plan(self, crystal: Crystal) -> Plan[SquashDocument]:
        rest = checked((yield {"rest": Relax(crystal.structure, RelaxOptions(check_minimum=False))})["rest"])
        smaller = rest.structure.copy()
        smaller.apply_strain(-self.strain)
        cost = checked((yield {"pressed": Static(smaller)})["pressed"]).energy - rest.energy
        unit = 1000 if self.version > 1 else 1  # the fault that the second version mends
        return SquashDocument(cost=unit * cost, provenance=self.origin(crystal))


class TwiceDocument(AnswerDocument):
    ratio: float | None = None


@dataclass(frozen=True)
class Twice(Property[TwiceDocument]):
    """How much more it costs to press it twice as far: asks for another property without a word of it."""

    name: ClassVar[str] = "twice"
    document: ClassVar[type[Document]] = TwiceDocument

    def plan(self, crystal: Crystal) -> Plan[TwiceDocument]:
        found = yield {"once": Ask(Squash(0.02), crystal), "twice": Ask(Squash(0.04), crystal)}
        return TwiceDocument(ratio=found["twice"].cost / found["once"].cost, provenance=self.origin(crystal))


@dataclass(frozen=True)
class Within(Twice):
    """The same with the other property among its settings."""

    name: ClassVar[str] = "within"
    once: Squash = field(default_factory=Squash)


def crystals(n: int = 2) -> list[Crystal]:
    cells = (a / 2 * (np.ones((3, 3)) - np.eye(3)) for a in np.linspace(4.3, 4.5, n))
    return [Crystal(Structure(cell, ["Mg"], [[0, 0, 0]])) for cell in cells]


def computed(property_: Property, table: ResultsTable) -> tuple[list, Counts]:
    counts = Counts()
    found = dict(compute(enumerate(Ask(property_, one) for one in crystals()), MORSE, table, counts=counts))
    return [found[i] for i in sorted(found)], counts


def test_a_mended_property_is_computed_anew_from_the_calculations_that_are_kept(tmp_path: Path, monkeypatch) -> None:
    table = ResultsTable(tmp_path / "results.sqlite")
    before, counts = computed(Squash(), table)
    assert counts.n_requests == 4 and before[0].provenance.code_version == code_version()
    assert computed(Squash(), table)[1].n_made == 0
    monkeypatch.setattr(Squash, "version", 2)
    after, counts = computed(Squash(), table)
    assert (counts.n_made, counts.n_requests) == (2, 0)
    assert [one.cost for one in after] == pytest.approx([1000 * one.cost for one in before], rel=1e-12)
    assert versions_of(after[0]) == {"squash": 2}
    again, counts = computed(Squash(), table)
    assert counts.n_made == 0 and again[0].cost == after[0].cost


@pytest.mark.parametrize("kind", [Twice, Within])
def test_what_rests_on_a_mended_property_is_computed_anew_too(kind, tmp_path: Path, monkeypatch) -> None:
    table = ResultsTable(tmp_path / "results.sqlite")
    (one, *_), _ = computed(kind(), table)
    assert versions_of(one) == {kind.name: 1, "squash": 1} and not mended(kind(), one)
    monkeypatch.setattr(Squash, "version", 2)
    assert mended(kind(), one) == {"squash": 2}
    (one, *_), counts = computed(kind(), table)
    assert (counts.n_made, counts.n_requests) == (2, 0) and versions_of(one) == {kind.name: 1, "squash": 2}
    assert computed(kind(), table)[1].n_made == 0


def test_a_document_of_before_there_were_versions_has_the_first_of_each(tmp_path: Path, monkeypatch) -> None:
    table = ResultsTable(tmp_path / "results.sqlite")
    computed(Within(), table)
    with table._connect() as connection:
        connection.execute("UPDATE documents SET document = json_remove(document, '$.provenance.versions')")
        connection.execute("DELETE FROM parts")
    assert computed(Within(), table)[1].n_made == 0
    monkeypatch.setattr(Squash, "version", 2)
    _, counts = computed(Within(), table)
    assert counts.n_made == 2 and counts.n_requests == 6  # nothing was kept at that time


def test_calculations_that_failed_are_not_kept(tmp_path: Path) -> None:
    table = ResultsTable(tmp_path / "results.sqlite")
    far = Crystal(Structure(0.5 * np.eye(3), ["Mg"], [[0, 0, 0]]))  # atoms on top of each other
    ((_, found),) = compute([(0, Ask(Squash(), far))], MORSE, table)
    assert found.error is not None and not table.has_parts()


def test_every_document_that_is_stored_says_where_it_comes_from() -> None:
    for name in property_names():
        kind = property_class(name)
        assert kind.anew or "provenance" in kind.document.model_fields, name


# ---- on the command line


def dpa4(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    found = [tmp_path / f"Mg{i}.cif" for i in range(2)]
    for path, crystal in zip(found, crystals(), strict=True):
        crystal.structure.copy().make_supercell([2, 1, 1]).to(str(path))
    return found


def test_a_folder_tells_what_was_mended_since_and_resume_computes_it_anew(tmp_path, files, monkeypatch) -> None:
    run = tmp_path / "run"
    flags = ("--no-check-minimum", "-m", MORSE.name, "-o", run)
    assert dpa4("equation-of-state", *files, *flags).exit_code == 0
    told = dpa4("status", run)
    assert f"made by dpa4-flows {code_version()}" in told.stdout and "mended" not in told.output
    monkeypatch.setattr(EquationOfState, "version", 2)
    told = dpa4("status", run)
    assert "2 of 2 answers about equation of state are from before it was mended" in told.stderr
    assert f"dpa4 resume {run}" in told.stdout and "complete" in told.stdout and "Mg1" in told.stdout
    facts = json.loads(dpa4("status", run, "--json").stdout)
    assert facts["code_versions"] == [code_version()]
    again = dpa4("resume", run, "--json")
    assert json.loads(again.stdout)["reused"] is True  # no calculation was made
    assert "mended" not in dpa4("status", run).output
    answers = json.loads((run / "answers.json").read_text())
    assert answers[0]["equation_of_state"]["provenance"]["versions"]["equation_of_state"] == 2


@pytest.mark.parametrize("kind", [Hull, ElectrochemicalWindows, ChemicalPotentials])
def test_what_was_mended_of_gibbs_energies_concerns_answers_at_a_temperature(kind) -> None:
    (crystal,) = crystals(1)
    subject = replace(crystal, model=MORSE, info=MORSE.info())
    before = kind().failed(subject, PlanError("", ""))
    before = marked(before, {kind.name: kind.version})
    assert mended(kind(), before) == {} and mended(kind(temperature=500.0), before) == {"gibbs_entries": 2}
    assert not mended(kind(temperature=500.0), marked(before, kind(temperature=500.0).versions))


@pytest.mark.parametrize("mended_one", [Hull, ElectrochemicalWindows, Relaxed])
def test_answers_that_are_made_anew_each_time_tell_what_was_mended_since(mended_one, tmp_path, monkeypatch) -> None:
    """A hull, what is read off it, and the relaxation that both rest on."""
    monkeypatch.chdir(tmp_path)
    Structure(2.7 * np.eye(3), ["Li", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]).to(filename="LiO.cif")
    own = [f"--set={name}.{one}" for name in ("hull", "window") for one in ("library=", "bundled=false")]
    fast = [f"--set={name}.relaxation.{one}" for name in ("hull", "window") for one in ("fmax=0.1", "rattle=0.0")]
    flags = (*own, *fast, "--prototypes=false", "-m", MORSE.name, "-o", "run")
    assert dpa4("compute", "hull", "window", "LiO.cif", *flags).exit_code in (0, 3)
    assert "mended" not in dpa4("status", "run").output
    monkeypatch.setattr(mended_one, "version", 7)
    told = dpa4("status", "run").stderr
    assert ("answers about hull" in told) is (mended_one is not ElectrochemicalWindows)
    assert ("answers about window" in told) is (mended_one is not Hull)
    assert dpa4("resume", "run").exit_code in (0, 3)
    assert "mended" not in dpa4("status", "run").output
    assert dpa4("report", "run", "-o", "page.html").exit_code == 0
    assert "Hull of Li-O" in Path("page.html").read_text()  # drawn from what the folder keeps, once for all structures


@pytest.mark.parametrize(
    "command",
    [("predict",), ("relax", "--no-check-minimum"), ("static",), ("md", "--time", 0.002, "-o", "x.traj")],
)
def test_json_on_the_screen_names_model_and_code(command, tmp_path, files, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    name, *flags = command
    done = dpa4(name, files[0], *flags, "-m", MORSE.name, "--json")
    assert done.exit_code == 0, done.output
    assert code_version() in done.stdout and "Morse" in done.stdout


def test_answers_that_this_program_cannot_read_are_one_sentence_with_the_code_that_made_them(tmp_path: Path) -> None:
    table = ResultsTable(tmp_path / "results.sqlite")
    computed(Squash(), table)
    with table._connect() as connection:
        connection.execute(
            "UPDATE documents SET document = json_set(document, '$.price', 3, '$.provenance.code_version', '9.9')"
        )
    with pytest.raises(ResultsError, match=r"SquashDocument.* cannot read; they were made by 9\.9: use that version"):
        computed(Squash(), table)
