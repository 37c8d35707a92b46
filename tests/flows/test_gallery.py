"""Pictures and tables of surfaces: drawings of hand-made slabs, galleries of hand-made documents, pages and files."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from ase.build import add_adsorbate, fcc111
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor
from typer.testing import CliRunner, Result

from dpa4_flows.cli import app
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import Provenance
from dpa4_flows.documents.surfaces import AdsorptionDocument, AdsorptionFacet, AdsorptionSite, SkippedTerminations
from dpa4_flows.plots.drawing import Disc, Polygon, Words
from dpa4_flows.plots.figure import GalleryBlock, TableBlock
from dpa4_flows.report.figures_surfaces import adsorption_figures, facet_colours
from dpa4_flows.report.picture_file import write_pictures
from dpa4_flows.report.refusals import REMEDIES
from dpa4_flows.report.slab_views import HEIGHT, WIDTH, views

PROVENANCE = Provenance(model_name="toy", model_sha256="0" * 64, level_of_theory="PBE", settings={}, code_version="1")
EVIL = "<script>alert(1)</script>"
ROOT = Path(__file__).parents[2]


def covered(site: str = "fcc", height: float = 0.9) -> Structure:
    """H on four planes of copper, one in a 2 × 2 cell."""
    slab = fcc111("Cu", (2, 2, 4), vacuum=6.0)
    add_adsorbate(slab, "H", height, site)
    return AseAtomsAdaptor.get_structure(slab)


def discs(shapes, fill: str | None = None, wide: bool | None = None) -> list[Disc]:
    found = [shape for shape in shapes if isinstance(shape, Disc)]
    found = [disc for disc in found if fill is None or disc.fill == fill]
    return [disc for disc in found if wide is None or (disc.width > 0) is wide]


# ---- drawings ------------------------------------------------------------------------------------------------------


def test_the_adsorbate_stands_in_the_middle_and_its_images_one_cell_away():
    structure = covered()
    above, beside = views(structure, 1)
    places = np.array([(disc.x, disc.y) for disc in discs(above.shapes, wide=True)])
    middle = np.array([WIDTH / 2, 66.0])
    apart = np.linalg.norm(places - middle, axis=1)
    scale = 14.5
    assert apart.min() == pytest.approx(0, abs=0.1)
    assert np.sort(apart)[1] / scale == pytest.approx(structure.lattice.a, abs=0.01)
    (outline,) = [shape for shape in above.shapes if isinstance(shape, Polygon) and shape.dash]
    corners = np.array(outline.points)
    assert corners[:4].mean(axis=0) == pytest.approx(middle)
    assert np.linalg.norm(corners[1] - corners[0]) / scale == pytest.approx(structure.lattice.b, abs=0.01)
    (own,) = [
        disc for disc in discs(beside.shapes, wide=True) if abs(disc.x - WIDTH / 2) < 0.1 and disc.fill == "#ffffff"
    ]
    assert 0 < own.y - own.radius < HEIGHT / 3


def test_what_is_far_is_paler_and_what_is_hidden_is_not_drawn():
    above, beside = views(covered(), 1)
    metal = discs(above.shapes, wide=False)
    fills = list(dict.fromkeys(disc.fill for disc in metal))
    assert len(fills) == 4 and fills[2] < fills[0], "three planes from the deepest to the uppermost, and the key"
    for drawing in (above, beside):
        drawn = [shape for shape in drawing.shapes if isinstance(shape, Disc) and shape.y < 120]
        assert not any(near.hides(disc) for k, disc in enumerate(drawn) for near in drawn[k + 1 :])


@pytest.mark.parametrize("site", ["fcc", "ontop", "bridge"])
def test_a_picture_has_a_few_kilobytes_of_svg_that_any_program_reads(site):
    for drawing in views(covered(site), 1):
        text = str(drawing.svg())
        assert len(text) < 5000
        root = ElementTree.fromstring(text)
        assert root.tag.endswith("svg") and root.get("aria-label") in ("from above", "from the side")


def test_words_of_a_drawing_are_text():
    assert EVIL not in Words(0, 0, EVIL).svg() and "&lt;script" in Words(0, 0, EVIL).svg()


def test_a_facet_has_one_colour_whoever_else_is_there():
    few, many = facet_colours(["100", "111_2"]), facet_colours(["111_2", "100", "110", "211", "310"])
    assert few == {name: many[name] for name in few} and len(set(many.values())) == 5


# ---- galleries and tables ------------------------------------------------------------------------------------------


def site(adsorbate: str = "H", energy: float | None = -0.47, *codes: str, drawn: bool = True, **fields):
    return AdsorptionSite(
        adsorbate=adsorbate,
        start="on_top",
        start_elements="Cu",
        missing_bonds=3,
        angle=0,
        end="hollow_fcc",
        end_elements="Cu3",
        height=0.9,
        energy=-1.0,
        adsorption_energy=energy,
        free_energy=None if energy is None else energy + 0.24,
        intact=not set(codes) & {"dissociated", "energy_jump"},
        converged=True,
        reasons=[Reason(code=code, sentence=f"sentence of {code}") for code in codes],
        structure=covered().as_dict() if drawn else None,
        **fields,
    )


def document(*sites: AdsorptionSite, **fields) -> AdsorptionDocument:
    facet = {"name": "111", "facet": "111", "miller": (1, 1, 1), "n_atoms": 16, "n_fixed": 8, "area": 22.0}
    return AdsorptionDocument(
        formula="Cu",
        adsorbates={"H": {"H": 1}, EVIL: {"H": 1}},
        facets=[AdsorptionFacet(**facet, coverage=0.25, structure={}, sites=list(sites))],
        provenance=PROVENANCE,
        **fields,
    )


def test_the_gallery_shows_the_best_site_and_one_example_of_what_went_wrong_with_codes_and_sentences():
    sites = site("H", -0.47, "migrated"), site("H", -0.4, drawn=False), site("H", -0.9, "dissociated")
    best, lost = adsorption_figures({"bulk": document(*sites)})
    assert isinstance(best, GalleryBlock) and isinstance(lost, GalleryBlock) and lost.folded
    (picture,), (other,) = best.pictures, lost.pictures
    assert picture.title == "H on Cu, bulk (111)" and len(picture.drawings) == 2
    words = " ".join(picture.lines)
    assert all(one in words for one in ("E −0.47 eV", "ΔG −0.23 eV", "hollow fcc of Cu₃", "0.90 Å", "one in 4 surface"))
    assert "best of 3 starts; 2 intact" in words
    assert [(mark.words, mark.sentence) for mark in picture.marks] == [("migrated", "sentence of migrated")]
    assert other.marks[0].bad and "1 of 3 starts" in " ".join(other.lines) and "−0.90" not in " ".join(other.lines)
    assert "toy (PBE)" in best.caption and "without water" in best.caption


def test_a_notebook_shows_pictures_and_runs_nothing():
    (best,) = adsorption_figures({EVIL: document(site(EVIL))})
    shown = best._repr_html_()
    assert shown.count("<svg") == 2 and EVIL not in shown


def test_the_table_says_what_was_refused_of_whom_with_a_remedy():
    refused = {"O": Reason(code="plus_u_seam", sentence="O on Cu brings O")}
    polar = {"miller": (1, 0, 0), "n_terminations": 2, "whole_facet": True, "reason": "it is charged"}
    skipped = [SkippedTerminations(facet="100", code=code, **polar) for code in ("polar", "breaks_more_bonds")]
    jump = site("H", None, "energy_jump", drawn=False)
    flagged = Reason(code="plus_u_surface", sentence="little tested")
    found = document(jump, jump, site(), refused=refused, skipped=skipped, warnings=[refused["O"], flagged])
    _, table = adsorption_figures({"Cu": found, "again": document(refused=refused)})
    assert isinstance(table, TableBlock)
    lines = [[str(cell) for cell in row] for row in table.rows]
    assert [line[:3] for line in lines] == [
        ["Cu; Cu, again", "all", "O"],
        ["Cu", "(100)", "all"],
        ["Cu", "(111)", "H"],
        ["Cu", "all", "–"],
    ]
    assert ["badge bad" in line[3] for line in lines] == [True, True, True, False]
    assert "[reroute]" in lines[0][5] and "larger cell" in lines[1][5]
    assert lines[2][4] == "2 of 3 starts: sentence of energy_jump"
    assert "2 terminations that break more bonds" in table.notes and "3 lines without" in table.caption
    (other,) = adsorption_figures({"Cu": document(skipped=[skipped[0].model_copy(update={"whole_facet": False})])})
    assert other.rows[0][3] == "polar", "the facet has other terminations"
    failed = document(error="all of it", error_code="plus_u_seam", refused=refused)
    assert [row[2] for row in adsorption_figures({"Cu": failed})[0].rows] == ["O"]


def test_every_remedy_is_of_a_code_that_something_gives():
    code = "\n".join(path.read_text() for path in (ROOT / "dpa4_flows").rglob("*.py") if path.name != "refusals.py")
    assert not [name for name in REMEDIES if f'"{name}"' not in code]


# ---- pages and files -----------------------------------------------------------------------------------------------


def dpa4(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


def test_a_command_writes_page_and_picture_of_all_that_an_activity_rests_on(tmp_path: Path):
    Structure(1.8 * (np.ones((3, 3)) - np.eye(3)), ["Cu"], [[0, 0, 0]]).to(str(tmp_path / "Cu.cif"))
    thin = {"min_length": 2.5, "min_thickness": 5.0, "vacuum": 9.0, "facets": '["110"]', "references.H": -1.0}
    settings = [f"activity.adsorption.{name}={value}" for name, value in thin.items()]
    settings += ["activity.surface.min_thickness=5.0", "activity.surface.vacuum=8.0", "activity.surface.max_steps=0"]
    given = [part for one in settings for part in ("--set", one)]
    page, run = tmp_path / "page.html", tmp_path / "run"
    call = ["activity", tmp_path / "Cu.cif", "-m", "dpa4_core.testing:MorsePotential", *given]
    done = dpa4(*call, "-o", run, "--report", page, "--plot", tmp_path / "all.png")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
    assert dpa4("report", run).exit_code == 0
    for text in (page.read_text(), (run / "report.html").read_text()):
        shown = text.partition("<script")[0]
        for words in (
            "Volcano of hydrogen",
            "Equilibrium shapes",
            "Best sites",
            "each material",
            "Refused or doubtful",
        ):
            assert words in text, words
        assert shown.count("<svg") >= 4 and "Before you quote a number" in shown and "no barriers" in shown
    refused = dpa4(*call, "--plot", tmp_path / "all.pdf")
    assert refused.exit_code == 1 and "end the name of the plot in .png or .svg" in refused.stderr


def test_a_drawn_file_has_the_pictures_their_words_and_the_caveats(tmp_path: Path):
    blocks = adsorption_figures({"Cu": document(site("H", -0.47, "migrated"))})
    write_pictures(tmp_path / "sites.svg", blocks, ["Mind the gap."])
    text = (tmp_path / "sites.svg").read_text()
    for words in ("H on Cu (111)", "E −0.47 eV", "sentence of migrated", "Mind the gap.", "Computed by toy"):
        assert f"<!-- {words}" in text or words in text, words
