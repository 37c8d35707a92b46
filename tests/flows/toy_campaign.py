"""A small battery campaign on a toy potential, with a deliberate loser for every stage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pymatgen.core import Lattice, Structure

from dpa4_flows.analysis.hull import HullResult
from dpa4_flows.campaigns.battery_charged import charged_finding
from dpa4_flows.campaigns.config import campaign_of
from dpa4_flows.campaigns.context import Case, Scene, Screening
from dpa4_flows.campaigns.hull import hull_finding
from dpa4_flows.compute.plan import Crystal
from dpa4_flows.documents.provenance import provenance
from dpa4_flows.documents.schemas import Candidate, RelaxationDocument, StageResult
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.hull import Place
from dpa4_flows.store.table import ResultsTable

NO_BUNDLE = {"bundled": False, "prototypes": False}
"""Section [hull] without the phases of real chemistry, which a toy would relax for minutes."""

MORSE = "dpa4_core.testing:MorsePotential"

STAGES = [
    *("sanity", "duplicates", "relax", "relaxed_duplicates", "hull"),
    *("delithiate", "relax_charged", "electrode", "charged_hull"),
]
"""Without the profile, whose orderings would take as long as all others together."""


def scene(stage: str, **tables: Mapping[str, Any]) -> Scene:
    """A stage of a campaign with some tables, at work in the folder of the test."""
    campaign = campaign_of({"campaign": {"name": "x", "candidates": ["x"]}, **tables})
    run = Screening("x.sqlite", ModelRef(MORSE), campaign, "none")
    return Scene(run, campaign.funnel.stage(stage), ResultsTable("x.sqlite"), range(1, 119))


def sanity_verdict(candidate: Candidate, **settings: Any) -> StageResult:
    """What the first stage says of a candidate."""
    stage = scene("sanity", sanity=settings)
    assert stage.stage.judge is not None
    return stage.verdict(stage.stage.judge(Case(stage, candidate, {})))


def hull_verdict_on(position: HullResult, limit: float = 0.05, *, charged: bool = False) -> StageResult:
    """What a hull stage says of a phase at this position."""
    document = RelaxationDocument(
        key="x", structure_hash="x", formula=position.formula, n_atoms=1, provenance=provenance(ModelRef(MORSE), {})
    )
    crystal, place = Crystal(layered("Co"), "x", document), Place(position, position.completeness())
    if charged:
        stage = scene("charged_hull", charged_hull={"energy_above_hull_charged": {"max": limit}})
        return stage.verdict(charged_finding(crystal, place))
    return scene("hull", hull={"energy_above_hull": {"max": limit}}).verdict(hull_finding(crystal, place))


def layered(metal: str) -> Structure:
    """O3 LiMO2, primitive cell."""
    a, c = 2.83, 14.1
    lattice = Lattice.rhombohedral((a**2 / 3 + c**2 / 9) ** 0.5, 33.1)
    z = 0.2605
    return Structure(lattice, [metal, "Li", "O", "O"], [[0] * 3, [0.5] * 3, [z] * 3, [1 - z] * 3])


def tetrahedral(metal: str) -> Structure:
    """LiMO2 with every atom between four others: too open for a potential of pairs, it relaxes to the layered one."""
    coordinates = [[0, 0, 0], [0.5, 0.5, 0.5], [0.0, 0.5, 0.25], [0.5, 0.0, 0.75]]
    return Structure(Lattice.tetragonal(3.1, 4.4), [metal, "Li", "O", "O"], coordinates)


def planar(metal: str) -> Structure:
    """LiMO2 in flat layers, a saddle that nothing but a push or a check leaves: far above the hull."""
    coordinates = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0], [0, 0.5, 0]]
    return Structure(Lattice.tetragonal(3.9, 3.9), [metal, "Li", "O", "O"], coordinates)


def rocksalt(metal: str) -> Structure:
    """MO, primitive cell."""
    return Structure(_face_centred(4.2), [metal, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def besides(metal: str) -> dict[str, Structure]:
    """Compounds of nearly the composition of MO, by formula: what the rock salt is stable against, but not by far."""
    found = {}
    for symbol in (metal, "O"):
        structure = rocksalt(metal) * [3, 3, 3]
        structure.remove_sites([next(i for i, site in enumerate(structure) if site.specie.symbol == symbol)])
        found[structure.composition.reduced_formula] = structure
    return found


def write_phases(path: Path, structures: Mapping[str, Structure]) -> Path:
    """A file of competing phases."""
    rows = [{"id": name, "source": "made up", "structure": s.as_dict()} for name, s in structures.items()]
    path.write_text(json.dumps(rows))
    return path


def antifluorite() -> Structure:
    """Li2O, primitive cell."""
    return Structure(_face_centred(4.6), ["O", "Li", "Li"], [[0, 0, 0], [0.25] * 3, [0.75] * 3])


def _face_centred(a: float) -> Lattice:
    return Lattice([[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]])


def candidates() -> dict[str, Structure]:
    """Candidates by id, winners first."""
    found = {f"Li{metal}O2": layered(metal) for metal in ("Co", "Ni", "Mn")}
    found["LiNiO2-open"] = tetrahedral("Ni")
    found["LiNiO2-flat"] = planar("Ni")
    found["LiCoO2-supercell"] = layered("Co") * [1, 1, 2]
    found["LiCoXe2"] = Structure(layered("Co").lattice, ["Co", "Li", "Xe", "Xe"], layered("Co").frac_coords)
    overlap = layered("Ni")
    overlap.translate_sites([1], overlap.frac_coords[0] - overlap.frac_coords[1] + 0.01)
    found["overlap"] = overlap
    found["MgO"] = rocksalt("Mg")
    found["LiAlO2"] = layered("Al")
    found["LiCoO2-half"] = layered("Co")
    found["LiCoO2-half"].replace(0, {"Co": 0.5, "Ni": 0.5})
    return found


def competing() -> dict[str, Structure]:
    """Phases that the candidates compete with."""
    return {"Li2O": antifluorite(), **{f"{metal}O": rocksalt(metal) for metal in ("Co", "Ni", "Mn")}}


def write_campaign(folder: Path, **sections: Mapping[str, Any]) -> Path:
    """Campaign file and structures in ``folder``; ``sections`` add to or replace keys of the default file."""
    (folder / "structures").mkdir(parents=True, exist_ok=True)
    for name, structures in (("candidates", candidates()), ("competing", competing())):
        rows = [{"id": i, "structure": structure.as_dict(), "source": "made up"} for i, structure in structures.items()]
        (folder / "structures" / f"{name}.json").write_text(json.dumps(rows))
    content: dict[str, dict[str, Any]] = {
        "campaign": {"name": "toy", "candidates": ["structures/candidates.json"], "stages": STAGES},
        "model": {"name": MORSE, "dtype": "float64", "threads": 1},
        "relax": {"fmax": 0.05, "rattle": 1e-4, "check_minimum": False},  # the flat structure stays on its saddle
        "hull": {
            "competing": ["structures/competing.json"],
            "energy_above_hull": {"max": 0.6},
            "library": "none",
            **NO_BUNDLE,
        },
        "charged_hull": {"energy_above_hull_charged": {"max": 1.0}},
        "electrode": {"average_voltage": {"min": 0.0, "max": 20.0}},
        "engine": {"chunk_size": 2},
    }
    for section, keys in sections.items():
        content.setdefault(section, {}).update(keys)
    lines = []
    for section, keys in content.items():
        lines += [f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in keys.items() if value is not None)]
    path = folder / "campaign.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)
