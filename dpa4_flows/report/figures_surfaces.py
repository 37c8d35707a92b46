"""Pictures of surfaces: equilibrium shapes, and adsorbates on their sites."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import cycle

import numpy as np

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.documents.schemas import Provenance
from dpa4_flows.documents.surfaces import AdsorptionDocument, AdsorptionFacet, AdsorptionSite
from dpa4_flows.plots.drawing import EDGE, INK, Drawing, Polygon, Words, mixed
from dpa4_flows.plots.figure import PALETTE, Block, GalleryBlock, Mark, Picture
from dpa4_flows.plots.words import first_of, formula_text, signed
from dpa4_flows.properties.surface import EquilibriumShape, SurfaceDocument
from dpa4_flows.report.figures_adsorption import site_energies
from dpa4_flows.report.refusals import origin_words, refusals
from dpa4_flows.report.slab_views import views

_SHAPES, _SITES = 60, 240  # pictures in one page
_LEGEND = 7  # facets
_VIEW = np.array([1.0, 0.42, 0.36])
"""Direction from which shapes are seen: of no symmetry, so that no face hides behind an edge."""
_COLOURS = dict(zip(("111", "100", "110"), PALETTE, strict=False)) | dict(
    zip(("0001", "10-10", "11-20"), PALETTE, strict=False)
)
_SIZE = 150.0  # pixels of a shape
_MUTED = "#5c6976"


def basis(origins: Iterable[Provenance]) -> str:
    """Models and levels of theory behind some documents, for a caption."""
    return f"Computed by {', '.join(dict.fromkeys(map(origin_words, origins)))}."


# ---- equilibrium shapes ----------------------------------------------------------------------------------------------


def surface_figures(documents: Mapping[str, SurfaceDocument]) -> list[Block]:
    """The shape of each crystal, and what has no surface energy."""
    shapes: dict[str, SurfaceDocument] = {}
    n_shapes = 0
    for name, document in documents.items():  # each is read from disk, and has its slabs in it
        n_shapes += document.shape is not None
        if document.shape is not None and len(shapes) < _SHAPES:
            shapes[name] = document
    colours = facet_colours(t.facet for document in shapes.values() for t in document.terminations if t.lowest)
    blocks: list[Block] = []
    if shapes:
        caption = (
            "Wulff shapes from the facets that have a surface energy, clean and at 0 K: a facet that was not cut, or "
            "has no slab, may be missing. "
        )
        pictures = [_shape(name, document, colours) for name, document in shapes.items()]
        caption += basis(document.provenance for document in shapes.values())
        blocks.append(GalleryBlock("shapes", "Equilibrium shapes", caption, pictures, first_of(n_shapes, _SHAPES)))
    return [*blocks, *refusals("surface", "surface energy", documents)]


def facet_colours(facets: Iterable[str]) -> dict[str, str]:
    """One colour for each facet or termination, in all figures the same for the commonest."""
    found = sorted(set(facets))
    others = [name for name in found if name.partition("_")[0] not in _COLOURS]
    further = dict(zip(others, cycle(PALETTE[len(set(_COLOURS.values())) :]), strict=False))
    return {name: further.get(name) or _COLOURS[name.partition("_")[0]] for name in found}


def _shape(name: str, document: SurfaceDocument, colours: Mapping[str, str]) -> Picture:
    shape = document.shape
    assert shape is not None
    lowest = {one.facet: one for one in document.terminations if one.lowest}
    facet_of = {one.miller: facet for facet, one in lowest.items()}
    shown = {family: colours[facet] for family, facet in facet_of.items()}
    shares = sorted(shape.area_fractions.items(), key=lambda item: -item[1])
    legend: list[Polygon | Words] = [
        Words(_SIZE + 110, 17, "J/m²", 10, "end", _MUTED),
        Words(_SIZE + 160, 17, "area", 10, "end", _MUTED),
    ]
    for row, (facet, share) in enumerate(shares[:_LEGEND]):
        x, y = _SIZE + 14, 34.0 + 17 * row
        ink = INK if share else _MUTED
        square = [(x, y - 9), (x + 10, y - 9), (x + 10, y + 1), (x, y + 1)]
        cost = lowest[facet].surface_energy
        energy = "" if cost is None else f"{cost:.2f}"
        legend += [
            Polygon(square, colours[facet] if share else "#ffffff", width=0.8),
            Words(x + 16, y, f"({facet})", colour=ink),
            Words(x + 96, y, energy, anchor="end", colour=ink),
            Words(x + 146, y, f"{share:.0%}" if share == 0 or share >= 0.005 else "<1%", anchor="end", colour=ink),
        ]
    if len(shares) > _LEGEND:
        more = f"and {len(shares) - _LEGEND} more facets"
        legend.append(Words(_SIZE + 30, 34.0 + 17 * _LEGEND, more, colour=_MUTED))
    drawing = Drawing(_SIZE + 164, _SIZE + 10, [*_faces(shape, shown), *legend], f"equilibrium shape of {name}")
    mean = document.surface_energy
    lines = [] if mean is None else [f"mean surface energy {mean:.2f} J/m²"]
    return Picture(
        _title(name, document.formula), [drawing], lines, [Mark(r.code, r.sentence) for r in document.warnings]
    )


def _faces(shape: EquilibriumShape, colours: Mapping[tuple[int, int, int], str]) -> Iterator[Polygon]:
    """Those that one sees from `_VIEW`, brighter if they look there: a convex body hides nothing else."""
    towards = _VIEW / np.linalg.norm(_VIEW)
    across = np.cross([0.0, 0.0, 1.0], towards)
    across /= np.linalg.norm(across)
    up = np.cross(towards, across)
    vertices = np.array(shape.vertices)
    flat = np.column_stack([vertices @ across, -(vertices @ up)])
    scale = _SIZE / 2 / np.abs(flat).max()
    for face in shape.faces:
        corners = vertices[list(face.corners)]
        normal = np.cross(corners[1] - corners[0], corners[2] - corners[1])
        light = float(normal @ towards / np.linalg.norm(normal))
        if light > 1e-6:
            points = [(float(x), float(y)) for x, y in flat[list(face.corners)] * scale + _SIZE / 2 + 5]
            yield Polygon(points, _lit(colours[face.family], light), EDGE, 1.2)


def _lit(colour: str, light: float) -> str:
    """Darker away from the light, a little paler towards it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return mixed(parts, 0.45 * (1 - light), (0.1, 0.12, 0.16)) if light < 0.75 else mixed(parts, light - 0.75)


# ---- adsorbates on their sites ---------------------------------------------------------------------------------------


def adsorption_figures(documents: Mapping[str, AdsorptionDocument]) -> list[Block]:
    """The best site of every adsorbate on every termination, what did not stay what it was, and what was refused."""
    best: list[Picture] = []
    lost: list[Picture] = []
    n_best = n_lost = 0
    origins: list[Provenance] = []
    for name, document in documents.items():
        origins.append(document.provenance)
        for facet in document.facets:
            for site in facet.sites:
                if site.structure is None:
                    continue
                drawn = best if site.intact else lost
                n_best, n_lost = n_best + site.intact, n_lost + (not site.intact)
                if len(drawn) < _SITES:
                    drawn.append(_site(name, document, facet, site))
    caption = (
        "Of each adsorbate on each termination the intact site of lowest energy: from above with the cell in which "
        "there is one adsorbate (dashed), and from the side, cut where it is bound. E is electronic, from the gas "
        "references; ΔG at 298 K and 0 V; both of one coverage, without water. "
    )
    ends = (
        "The adsorbate did not stay what it was, or the surface did not, so that these energies are of something else "
        "and count nowhere. One example of each kind. "
    )
    caption, ends = caption + basis(origins), ends + basis(origins)
    found = (
        GalleryBlock("best-sites", "Best sites", caption, best, first_of(n_best, _SITES)),
        GalleryBlock("lost-sites", "Sites that went wrong", ends, lost, first_of(n_lost, _SITES), folded=True),
    )
    energies = site_energies(documents)
    return [
        *energies,
        *(block for block in found if block.pictures),
        *refusals("adsorption", "adsorption energy", documents),
    ]


def _site(name: str, document: AdsorptionDocument, facet: AdsorptionFacet, site: AdsorptionSite) -> Picture:
    starts = [one for one in facet.sites if one.adsorbate == site.adsorbate]
    drawings = views(structure_of_fields(site.structure), sum(document.adsorbates[site.adsorbate].values()))
    lines = []
    if site.adsorption_energy is not None and site.intact:
        free = "" if site.free_energy is None else f", ΔG {signed(site.free_energy)} eV"
        lines.append(f"E {signed(site.adsorption_energy)} eV{free}")
    kind = f"{(site.end or site.start).replace('_', ' ')} of {formula_text(site.end_elements or site.start_elements)}"
    height = "" if site.height is None else f", {site.height:.2f} Å above it"
    lines.append(f"{kind}{height}; {_coverage(facet.coverage)}")
    if site.intact:
        followed = [one for one in starts if "not_followed" not in one.codes]
        left = f", {len(starts) - len(followed)} left as higher" if len(followed) < len(starts) else ""
        lines.append(f"best of {len(starts)} starts{left}; {sum(one.intact for one in followed)} intact")
    else:
        same = sum(set(one.codes) == set(site.codes) for one in starts)
        lines.append(f"{same} of {len(starts)} starts, this one from {site.start.replace('_', ' ')}")
    marks = [Mark(r.code, r.sentence, bad=not site.intact) for r in site.reasons]
    marks += [Mark(r.code, r.sentence) for r in facet.reasons if r.code != "no_intact_site"]
    return Picture(f"{site.adsorbate} on {_title(name, document.formula)} ({facet.name})", drawings, lines, marks)


def _coverage(coverage: float) -> str:
    inverse = round(1 / coverage)
    return "one in each surface cell" if inverse == 1 else f"one in {inverse} surface cells"


def _title(name: str, formula: str) -> str:
    """Formula, and the name of the structure where it says more."""
    return formula_text(formula) if name == formula else f"{formula_text(formula)}, {name}"
