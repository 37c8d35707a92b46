"""Properties by name, and the commands as functions: structures of any form in, a table of documents out."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from ase.io import read
from pymatgen.core import Lattice, Molecule, Structure
from rich.console import Console
from toy_campaign import write_campaign
from typer.testing import CliRunner

import dpa4_flows as d4
from dpa4_core.data.graph import Graph
from dpa4_core.errors import DPA4Error
from dpa4_core.locks import LockedError, locked
from dpa4_core.potential import Output
from dpa4_core.testing import MorsePotential
from dpa4_flows.analysis.adsorbates import Adsorbate
from dpa4_flows.cli import app
from dpa4_flows.compute.driver import Counts
from dpa4_flows.compute.plan import Crystal, Plan, PlanError, Property
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.schemas import Document, Provenance
from dpa4_flows.makers.named import BatchElasticMaker, BatchRelaxMaker, BatchStaticMaker
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.plots.drawing import Polygon, Words
from dpa4_flows.properties import registry
from dpa4_flows.properties.activity import Activity
from dpa4_flows.properties.adsorption import Adsorption
from dpa4_flows.properties.answers import RELAXED, Question, Subject
from dpa4_flows.properties.at_rest import AT_REST
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.equation_of_state import EquationOfState
from dpa4_flows.properties.hull import Hull
from dpa4_flows.properties.modes import FollowedModes
from dpa4_flows.properties.registry import property_class, property_names
from dpa4_flows.properties.settings import plain_settings, settings_of, summary, with_settings
from dpa4_flows.properties.surface import SurfaceEnergies
from dpa4_flows.runs.property import LOCK_FILE, PropertyRun, compute
from dpa4_flows.runs.run import How
from dpa4_flows.store.table import ResultsTable

MORSE = "dpa4_core.testing:MorsePotential"


class Counted(MorsePotential):
    """Counts its force calls."""

    calls: ClassVar[int] = 0

    def compute(self, graph: Graph) -> Output:
        Counted.calls += 1
        return super().compute(graph)


COUNTED = f"{__name__}:Counted"


def fcc(a: float = 4.45, push: int | None = None) -> Structure:
    cell = Structure(a / 2 * (np.ones((3, 3)) - np.eye(3)), ["Mg"], [[0, 0, 0]])
    if push is not None:
        cell.make_supercell([2, 1, 1])
        cell.translate_sites([0], np.random.default_rng(push).normal(scale=0.05, size=3), frac_coords=False)
    return cell


def numbers(document: Document) -> dict:
    """A document without the time at which it was made."""
    return document.model_dump(mode="json", exclude={"provenance": {"created", "wall_time_s"}})


# ---- properties by name


def test_every_name_leads_to_a_property_that_says_what_its_settings_mean() -> None:
    for name in property_names():
        kind = property_class(name)
        assert registry.canonical(kind.name) == name
        assert summary(kind)
        assert not kind().together or kind.each is not Property.each, "nothing tells the documents of crystals apart"
        for setting in settings_of(kind):
            assert setting.words, f"{name}.{setting.name}"
        assert with_settings(kind, plain_settings(kind())) == kind()
        assert json.loads(json.dumps(plain_settings(kind()))) == plain_settings(kind())


def test_names_cost_no_import() -> None:
    code = (
        "import sys, dpa4_flows\n"
        "from dpa4_flows.properties.registry import property_names\n"
        "assert 'elastic' in property_names() and dpa4_flows.__version__\n"
        "heavy = {'torch', 'pymatgen', 'ase', 'jobflow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("elastc", "did you mean 'elastic'"),
        ("follow-mode", "did you mean 'follow_modes'"),
        ("zzz", "choose from relax"),
    ],
)
def test_an_unknown_name_is_answered_with_the_closest_one(name: str, said: str) -> None:
    with pytest.raises(DPA4Error, match=said):
        property_class(name)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"fmx": 1}, "unknown key 'fmx'; did you mean 'fmax'"),
        ({"fmax": "tight"}, "expected a number, got 'tight'"),
        ({"fmax": -1}, "fmax must be a positive number of eV/Å, not -1"),
        ({"strains": []}, "strains must be magnitudes other than 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_anything_runs(given: dict, said: str) -> None:
    with pytest.raises(DPA4Error, match=said):
        with_settings(Elastic, given)


@pytest.mark.parametrize("name", property_names())
def test_lengths_counts_and_thresholds_below_zero_are_refused(name: str) -> None:
    kind = property_class(name)
    if name in ("phonons", "phonon_bands", "quasi_harmonic", "stability", "follow_modes", "heat_conductivity"):
        pytest.importorskip("phonopy")
    for setting in dataclasses.fields(kind):
        default = setting.default
        if isinstance(default, bool) or not isinstance(default, int | float) or default <= 0:
            continue
        with pytest.raises(ValueError):  # of whatever the property asks
            with_settings(kind, {setting.name: type(default)(-1)})


def test_a_setting_of_a_property_within_another_leaves_its_neighbours() -> None:
    made = with_settings(FollowedModes, {"relaxation": {"fmax": 2e-3}})
    assert made.relaxation == dataclasses.replace(FollowedModes().relaxation, fmax=2e-3)
    assert made.phonons == FollowedModes().phonons


class SpanDocument(Document):
    span: float | None = None
    error: str | None = None
    error_code: str | None = None
    provenance: Provenance


@dataclass(frozen=True)
class Span(Property[SpanDocument]):
    """Longest edge of the relaxed cell.

    Attributes:
        times: factor.
    """

    name: ClassVar[str] = "span"
    document: ClassVar[type[Document]] = SpanDocument
    starts_from_rest: ClassVar[bool] = True
    times: float = 1.0

    def plan(self, crystal: Crystal) -> Plan[SpanDocument]:
        yield {}
        edge = max(crystal.structure.lattice.abc)
        return SpanDocument(span=self.times * edge, provenance=self.origin(crystal))

    def failed(self, crystal: Crystal, error: PlanError) -> SpanDocument:
        return SpanDocument(error=str(error), error_code=error.code, provenance=self.origin(crystal))


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch):
    """Lets packages offer properties."""

    def offer(*entries: tuple[str, str]) -> None:
        found = [EntryPoint(name, value, registry.GROUP) for name, value in entries]
        monkeypatch.setattr(registry, "entry_points", lambda group: found)
        registry._homes.cache_clear()

    yield offer
    monkeypatch.undo()
    registry._homes.cache_clear()


def test_other_packages_bring_properties(others) -> None:
    others(("span", f"{__name__}:Span"))
    assert property_names()[-1] == "span"
    results = d4.compute("span", fcc(), model=MORSE, settings={"span": {"times": 2}})
    assert results[0].span == pytest.approx(2 * 4.45 / 2**0.5, rel=0.2) != 0
    assert "Span" in repr(results) and list(results.to_dataframe()["span"]) == [results[0].span]


def test_a_property_of_another_package_that_cannot_be_used_harms_no_other(others) -> None:
    others(("elastic", f"{__name__}:Span"), ("gone", "no_such_module:Gone"), ("wrong", "json:loads"))
    for name, said in [("elastic", "several packages"), ("gone", "cannot be imported"), ("wrong", "is no property")]:
        with pytest.raises(DPA4Error, match=said):
            property_class(name)
    assert property_class("phonons").name == "phonons"


# ---- the same numbers on every way


FUNCTIONS = {
    name: property_class(name)
    for name in (
        "relax",
        "static",
        "elastic",
        "phonons",
        "surface",
        "adsorption",
        "activity",
        "electrode",
        "equation_of_state",
        "hull",
    )
}


def default(field: dataclasses.Field) -> object:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_has_the_settings_of_its_property(name: str) -> None:
    ours = {"structures", "model", "how"} | ({"relaxation"} if FUNCTIONS[name].starts_from_rest else set())
    parameters = inspect.signature(getattr(d4, name)).parameters
    given = {p.name: p.default for p in parameters.values() if p.name not in ours}
    assert given == {f.name: default(f) for f in dataclasses.fields(FUNCTIONS[name]) if f.name not in ours}
    assert ours <= set(parameters) and all(p.annotation is not p.empty for p in parameters.values())


def test_a_setting_reaches_the_property_of_its_name() -> None:
    def used(results):
        return results.question.properties[0]

    other = {"fmax": 0.05, "max_steps": 7, "relax_cell": True, "pressure_gpa": 1.0, "rattle": 0.01, "optimizer": "fire"}
    other |= {"max_step": 0.1, "cell": "all", "keep_symmetry": True, "check_minimum": False}
    assert used(d4.relax([], model=MORSE, **other)) == Relaxed(**other)
    other = {"strains": (-0.02, -0.01, 0.0, 0.01, 0.02), "form": "vinet", "fmax": 0.01, "max_steps": 9}
    assert used(d4.equation_of_state([], model=MORSE, **other)) == EquationOfState(**other)
    pytest.importorskip("phonopy")
    for name, skipped in (
        ("phonons", ("force_constants_folder", "temperatures_k")),
        ("surface", ("chemical_potentials", "region")),
        ("elastic", ()),
    ):
        kind = FUNCTIONS[name]
        changed = {
            f.name: tuple(2 * x for x in f.default) if isinstance(f.default, tuple) else 2 * f.default
            for f in dataclasses.fields(kind)
            if f.name not in skipped
        }
        assert used(getattr(d4, name)([], model=MORSE, **changed)) == kind(**changed)
    given = {
        "facets": ("111",),
        "max_index": 2,
        "min_length": 5.0,
        "min_thickness": 6.0,
        "vacuum": 9.0,
        "max_atoms": 90,
    }
    given |= {"max_terminations": 2, "orientations": 3, "fmax": 0.1, "max_steps": 9, "vibrations": "best"}
    given |= {"references": {"H": -1.0}, "corrections": {"CO": 0.1}}
    sites = Adsorption((Adsorbate.named("H"), Adsorbate.named("CO")), **given)
    assert used(d4.adsorption([], model=MORSE, adsorbates=["H", sites.adsorbates[1]], **given)) == sites
    given = {"reaction": "ORR", "adsorption": sites, "weighted": False, "surface": SurfaceEnergies(2), "reference": 0.8}
    given |= {"solvation": {"OH": -0.5}, "poison_limits": {"CO": 0.0}, "scale_ooh": True, "water": True}
    assert used(d4.activity([], model=MORSE, **given)) == Activity(**given)


def test_function_and_maker_give_the_same_documents(tmp_path: Path) -> None:
    structures = [fcc(push=1), fcc(4.3, push=2)]
    model, table = ModelRef(MORSE), ResultsTable(tmp_path / "makers.sqlite")
    for maker, results in (
        (BatchRelaxMaker(model=model), d4.relax(structures, model=MORSE)),
        (BatchStaticMaker(model=model), d4.static(structures, model=MORSE)),
    ):
        maker.run(table, structures)
        made = table.calculations(map(maker.key, structures))
        for structure, document in zip(structures, results, strict=True):
            same = made[maker.key(structure)]
            assert document.key == same.key and document.provenance.settings == same.provenance.settings
            assert document.energy == pytest.approx(same.energy, abs=1e-8)
            assert (document.n_steps, document.converged, document.minimum) == (
                same.n_steps,
                same.converged,
                same.minimum,
            )
    relaxed = [Structure.from_dict(d.structure) for d in d4.relax(structures, model=MORSE, **vars(AT_REST))]
    elastic = d4.elastic(structures, model=MORSE)
    for document, made in zip(elastic, BatchElasticMaker(model=model).documents(relaxed), strict=True):
        np.testing.assert_allclose(document.c_ij_gpa, made.c_ij_gpa, atol=1e-6)
        assert document.verdict == made.verdict


def test_properties_of_one_crystal_share_its_relaxation_and_batch() -> None:
    subjects = [Subject(str(i), fcc(push=i)) for i in range(2)]
    alone, together = [], Counts()
    for kind in (Elastic(), EquationOfState()):
        counts = Counts()
        compute(Question([kind]), subjects, ModelRef(MORSE), None, How(), counts=counts)
        alone.append(counts.n_requests)
    both = Question([Elastic(), EquationOfState()])
    answers = compute(both, subjects, ModelRef(MORSE), None, How(), counts=together).answers
    assert together.n_requests == sum(alone) - len(subjects)
    assert list(answers[0].documents) == [RELAXED, "elastic", "equation_of_state"]
    # of a metal without internal strain both are the same modulus
    for one in answers:
        of_volume = one.documents["equation_of_state"].bulk_modulus_gpa
        assert one.documents["elastic"].k_voigt_gpa == pytest.approx(of_volume, rel=0.02)


def test_without_a_relaxation_structures_are_taken_as_they_are() -> None:
    loose = d4.elastic(fcc(4.5), model=MORSE, relaxation=None)[0]
    assert not loose.converged and "relax it before" in loose.warnings[0]
    assert d4.elastic(fcc(4.5), model=MORSE)[0].converged


# ---- what is given


def test_structures_come_in_any_form_and_keep_their_order(tmp_path: Path) -> None:
    fcc().to(str(tmp_path / "mg.cif"))
    (tmp_path / "folder").mkdir()
    fcc(4.4).to(str(tmp_path / "folder" / "POSCAR"))
    given = [fcc(), bulk("Mg", "fcc", 4.5), tmp_path / "mg.cif", str(tmp_path / "folder"), molecule("H2")]
    given.append(Molecule(["H", "H"], [[0, 0, 0], [0, 0, 0.8]]))
    results = d4.static(iter(given), model=MORSE)
    assert [a.subject.name for a in results.answers] == ["Mg 0", "Mg 1", "mg", "POSCAR", "H2 4", "H2 5"]
    assert not results.failed and results[0].energy == pytest.approx(results[2].energy, abs=1e-6)
    assert len(d4.static(fcc(), model=MORSE)) == 1
    with pytest.raises(DPA4Error, match="entry 1 of the structures is neither a structure nor a path: 3"):
        d4.static([fcc(), 3], model=MORSE)


def test_what_cannot_be_read_or_computed_fails_alone_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken.cif").write_text("data_x\n")
    twice = Structure(fcc(5).lattice, ["Mg", "Mg"], [[0, 0, 0], [0, 0, 0.001]])
    results = d4.compute(["elastic", "static"], [tmp_path / "broken.cif", twice, fcc()], model=MORSE)
    assert [(f.name.split("/")[-1], f.document) for f in results.failed] == [
        ("broken.cif", ""),
        ("Mg 1", RELAXED),
    ]
    broken, overlapping, good = results
    for name in ("elastic", "static"):
        assert "holds no structure" in broken.documents[name].error
    assert "the relaxation failed" in overlapping.documents["elastic"].error
    assert good.documents["elastic"].k_vrh_gpa > 0
    only = results["static"]
    assert [f.document for f in only.failed] == ["", "static"] and len(only) == 3 and only[2].energy < 0
    with pytest.raises(DPA4Error, match=r"gone\.cif"):
        d4.static(tmp_path / "gone.cif", model=MORSE)


def test_atoms_that_a_file_fixes_are_set_free_for_properties_of_crystals() -> None:
    fixed = bulk("Mg", "fcc", 4.45)
    fixed.set_constraint(FixAtoms([0]))
    results = d4.elastic(fixed, model=MORSE)
    assert results.rows()[0]["warnings"] == ["atoms that the file fixes were set free"]
    assert results[0].k_vrh_gpa == pytest.approx(d4.elastic(fcc(), model=MORSE)[0].k_vrh_gpa, rel=1e-4)


def test_a_molecule_has_no_elastic_tensor() -> None:
    assert d4.elastic(molecule("H2"), model=MORSE)[0].error_code == "no_crystal"


def test_questions_that_make_no_sense_get_a_sentence() -> None:
    for properties, settings, said in (
        ([], None, "no property is asked for"),
        (["elastic", "Elastic"], None, "elastic is asked for twice"),
        ("elastic", {"phonons": {}}, "settings of phonons, which is not asked for"),
    ):
        with pytest.raises(DPA4Error, match=said):
            d4.compute(properties, fcc(), model=MORSE, settings=settings)


# ---- what comes out


@pytest.fixture(scope="module")
def results():
    twice = Structure(fcc(5).lattice, ["Mg", "Mg"], [[0, 0, 0], [0, 0, 0.001]])
    return d4.compute(["elastic", "static"], [fcc(), twice], model=MORSE)


def test_a_table_shows_itself(results) -> None:
    text = repr(results["elastic"])
    assert f"{results['elastic'][0].k_vrh_gpa:.0f}" in text and "failed: Mg 1, relaxation: " in text
    assert "GPa" in text and " K " in text  # little room: short heads
    page = results._repr_html_()
    assert 'title="0 for an isotropic crystal">Anisotropy' in page
    assert page.count("<table") == 2 and page.count("failed: Mg 1") == 1
    assert "<h4>elastic</h4>" in page
    strange = d4.static([bulk("Mg", "fcc", 4.4)], model=MORSE)
    strange.answers[0] = dataclasses.replace(
        strange.answers[0], subject=dataclasses.replace(strange.answers[0].subject, name="<b>[red]x")
    )
    assert "&lt;b&gt;[red]x" in strange._repr_html_() and "<b>[red]x" in repr(strange)


def test_a_narrow_terminal_gets_fewer_columns_and_none_is_cut(results) -> None:
    def shown(width: int) -> list[str]:
        console = Console(width=width)
        with console.capture() as capture:
            results["elastic"].print(console)
        return capture.get().splitlines()

    narrow, wide = shown(60), shown(200)
    assert 40 < max(map(len, narrow)) <= 60 < max(map(len, wide)) <= 200
    assert not any("…" in line for line in narrow)


def test_a_table_converts_and_writes(results, tmp_path: Path) -> None:
    frame = results.to_dataframe()
    assert frame["elastic.k_vrh_gpa"][0] == results["elastic"][0].k_vrh_gpa
    assert results["elastic"].to_dataframe()["k_vrh_gpa"][0] == frame["elastic.k_vrh_gpa"][0]
    written = results.write(tmp_path / "folder")
    assert [path.name for path in written] == ["answers.json", "answers.csv", "structures.extxyz"]
    assert json.loads(written[0].read_text()) == results.rows()
    assert len(written[1].read_text().splitlines()) == 3
    relaxed = read(written[2], index=":")
    assert len(relaxed) == 1 and relaxed[0].info["name"] == "Mg 0"
    rest = Structure.from_dict(results.answers[0].documents[RELAXED].structure)
    assert relaxed[0].get_volume() == pytest.approx(rest.volume)
    assert results["static"].to(tmp_path / "static.cif").is_file()
    assert read(tmp_path / "static.cif").get_volume() == pytest.approx(fcc().volume)
    with pytest.raises(DPA4Error, match="cannot tell the format"):
        results.to(tmp_path / "x.docx")


def test_a_property_with_a_figure_draws_it(results) -> None:
    with pytest.raises(DPA4Error, match="no figure of elastic, static"):
        results.plot()
    of_volume = d4.equation_of_state([fcc(4.4), fcc(push=1)], model=MORSE)
    line, points, *others = of_volume.plot().data
    assert len(others) == 2 and min(line.y) == pytest.approx(0, abs=0.1)
    # the fitted line goes through the computed points
    np.testing.assert_allclose(np.interp(points.x, line.x, line.y), points.y, atol=0.5)
    surface = d4.surface(fcc(4.4), model=MORSE, min_thickness=6.0, vacuum=8.0)
    (picture,) = surface.plot().pictures
    faces = [shape for shape in picture.drawings[0].shapes if isinstance(shape, Polygon) and shape.width == 1.2]
    # of a body with a centre one sees half of the faces, but those edge on
    assert len(faces) == len(surface[0].shape.faces) / 2
    legend = {shape.text for shape in picture.drawings[0].shapes if isinstance(shape, Words)}
    assert {f"{one.surface_energy:.2f}" for one in surface[0].terminations if one.lowest} <= legend
    assert {f"{share:.0%}" for share in surface[0].shape.area_fractions.values()} <= legend


def test_a_part_of_a_table_is_a_table(results) -> None:
    assert len(results[1:]) == 1 and results[1:][0] is results.answers[1]
    with pytest.raises(KeyError, match="phonons was not asked for"):
        results["phonons"]


def test_a_folder_is_where_everything_is_found_again(tmp_path: Path) -> None:
    first = d4.elastic([fcc(push=1)], model=COUNTED, folder=tmp_path)
    Counted.calls = 0
    again = d4.compute("elastic", [fcc(push=1)], model=COUNTED, folder=tmp_path)
    assert Counted.calls == 0 and numbers(again[0]) == numbers(first[0])


def test_a_folder_in_which_somebody_computes_keeps_the_question_that_he_answers(tmp_path: Path) -> None:
    first = d4.static([fcc()], model=MORSE, folder=tmp_path)
    with locked(tmp_path / LOCK_FILE, "at work"), pytest.raises(LockedError):
        d4.relax([fcc(push=1), fcc(push=2)], model=MORSE, folder=tmp_path)
    run = PropertyRun(tmp_path)
    assert run.status().state == "complete" and numbers(run.results()[0]) == numbers(first[0])


def test_a_campaign_runs_from_python_and_shows_its_ranking(tmp_path: Path) -> None:
    run = d4.screen(write_campaign(tmp_path), folder=tmp_path / "run")
    assert run.status().state == "complete" and run.page.is_file()
    assert set(run.to_dataframe()["status"]) >= {"ranked", "rejected"}
    shown = run._repr_html_()
    assert "LiCoO2" in shown and "mind: All energies are at 0 K" in shown and "sentence" not in shown


PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")


def test_the_page_on_python_runs_and_names_every_function(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "crystals").mkdir()
    fcc(4.4).to(str(tmp_path / "crystals" / "mg.cif"))
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    for block in blocks:
        exec(compile(block.replace("dpa4-neo", MORSE), "python.md", "exec"), {})
    *_, of_strain, of_volume = capsys.readouterr().out.split()
    assert float(of_strain) == pytest.approx(float(of_volume), rel=0.02)
    assert (tmp_path / "relaxed.extxyz").is_file()
    for name in (*FUNCTIONS, "compute", "stability", "screen"):
        assert f"| `{name}` |" in PAGE


def test_hulls_of_function_and_command_are_the_same(tmp_path: Path) -> None:
    cells = {"rocksalt": Lattice(2.15 * (np.ones((3, 3)) - np.eye(3))), "caesium_chloride": Lattice.cubic(2.7)}
    crystals = {n: Structure(cell, ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]) for n, cell in cells.items()}
    for name, crystal in crystals.items():
        crystal.to(str(tmp_path / f"{name}.cif"))
    phases = tmp_path / "phases.json"
    phases.write_text(json.dumps([{"id": "MgO", "structure": crystals["rocksalt"].as_dict()}]))
    files = [*(tmp_path / f"{name}.cif" for name in cells), tmp_path / "gone.cif"]
    against = {"files": (str(phases),), "library": None, "bundled": False, "prototypes": False, "relax": False}
    results = d4.hull(files, model=MORSE, **against)
    assert [one.error is None for one in results] == [True, True, False] and len(results.failed) == 1
    above = [one.energy_above_hull for one in results[:2]]
    assert max(above) > 0.05
    assert "MgO" in {text for trace in results.plot().data for text in trace.text or ()}  # the hull of both
    command = ("hull", *files, "--against", phases, "--no-relax", "-m", MORSE, "--json")
    rows = json.loads(CliRunner().invoke(app, [str(a) for a in command]).stdout)
    assert [one["hull"]["energy_above_hull"] for one in rows[:2]] == pytest.approx(above, abs=1e-6)
    assert [one["hull"]["n_competing"] for one in rows[:2]] == [one.document.n_competing for one in results[:2]]
    assert [set(one["hull"]) for one in rows] == [set(one.model_dump()) for one in results]
    judged = d4.stability(files, model=MORSE, hull=Hull(**against), phonons=None)
    assert [one.hull.document.energy_above_hull for one in judged[:2]] == pytest.approx(above, abs=1e-6)
    assert judged[above.index(max(above))].verdicts["hull"] == "unstable"
    assert [failure.name for failure in judged.failed] == [str(files[-1])]


def test_structures_of_one_call_stand_against_each_other(tmp_path: Path) -> None:
    low, high = (Structure(Lattice.cubic(a), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]) for a in (2.6, 2.9))
    phases = tmp_path / "phases.json"
    phases.write_text(json.dumps([{"id": "MgO", "structure": high.as_dict()}]))
    as_they_are = Relaxed(fmax=1e3, check_minimum=False)
    against = {"files": (str(phases),), "library": None, "bundled": False, "prototypes": False}
    against |= {"relaxation": as_they_are, "relax": False}
    energies = [one.energy_per_atom for one in d4.static([low, high], model=MORSE)]
    (_, beside), (alone,) = (d4.hull(given, model=MORSE, **against) for given in ([low, high], [high]))
    gained = beside.energy_above_hull - alone.document.distance_to_competing
    assert gained == pytest.approx(energies[1] - energies[0], abs=1e-6)
    assert energies[1] - energies[0] > 0.01
