"""Make the competing phases that come with the program: structures from open data, and what DPA4-Neo gives for them.

    python scripts/competing_phases.py collect DATA     # folders mp_elasticity, matbench_phonons, ... below DATA
    python scripts/competing_phases.py relax            # about an hour on two cores; continues where it was stopped
    python scripts/competing_phases.py write

``collect`` writes ``dpa4_flows/data/compounds.parquet``: structures and their sources, no energies. ``relax`` relaxes
all phases that are bundled (elements, these compounds, those of the campaigns) with the default model and settings of
`dpa4 hull`, and ``write`` puts the results in ``dpa4_flows/data/relaxed/dpa4-neo.parquet``. ``--part 1/2`` and
``--part 2/2`` share the work between two processes.

The data of ``collect`` (all CC BY 4.0; Materials Project structures relaxed with PBE and PBE+U):

* mp_elasticity: ``benchmark_data/mp-binary-pbe-elasticity-2025.1.json.gz`` of materialyzeai/matcalc;
* matbench_phonons: ``tests/data/matbench_phonons.json.gz`` of CompRhys/aviary;
* mp_hull_entries: ``src/site/convex-hull/quaternaries`` of janosh/matterviz;
* wbm_pbe52: ``benchmark_data/wbm-random-pbe52-equilibrium-2025.1.json.gz`` of materialyzeai/matcalc;
* alexandria_heat_capacity: ``benchmark_data/alexandria-binary-pbe-phonon-2025.1.json.gz`` of materialyzeai/matcalc;
* candidate_structures: which rows of the last two are of a simple structure type, by class.
"""

from __future__ import annotations

import argparse
import gzip
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Element, Structure

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.bundled import CAMPAIGN_FILE, bundled_campaigns
from dpa4_flows.campaigns.candidates import read_candidates
from dpa4_flows.campaigns.config import load_campaign
from dpa4_flows.compute.relaxed import PUSHED
from dpa4_flows.documents.calculations import input_hash
from dpa4_flows.makers.named import BatchRelaxMaker
from dpa4_flows.reference.bundled_phases import (
    COMPOUNDS_FILE,
    BundledPhases,
    compounds,
    relaxed_file,
    write_compounds,
    write_relaxed,
)
from dpa4_flows.reference.library import ReferencePhase, bundled_elements
from dpa4_flows.reference.proposed import with_proposals
from dpa4_flows.store.table import ResultsTable

MAX_ABOVE_HULL = 0.05  # eV/atom, of the two systems whose entries are complete: what lies higher competes with nothing
MAX_ATOMS = 40
AT_ONCE = 300  # structures between two lines of progress
MP = "Materials Project, CC BY 4.0 (A. Jain et al., APL Mater. 1, 011002 (2013))"
ELASTIC = "Materials Project, CC BY 4.0 (M. de Jong et al., Sci. Data 2, 150009 (2015))"
PHONONS = "CC BY 4.0 (G. Petretto et al., Sci. Data 5, 180065 (2018))"
OTHERS = {
    "wbm_pbe52": "WBM, CC BY 4.0 (H.-C. Wang et al., npj Comput. Mater. 7, 12 (2021))",
    "alexandria_heat_capacity": "Alexandria, CC BY 4.0 (A. Loew et al., npj Comput. Mater. 11, 178 (2025))",
}


def rows(data: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, source and structure of every phase, the best known ones first."""
    for name in ("Li-Co-Ni-O", "Na-Fe-P-O"):
        for entry in _load(data / "mp_hull_entries" / f"{name}.json.gz"):
            if entry["e_above_hull"] <= MAX_ABOVE_HULL:
                yield entry["data"]["material_id"], MP, entry["structure"]
    for row in _load(data / "mp_elasticity" / "mp_elasticity.json.gz"):
        yield row["mp_id"], ELASTIC, row["structure"]
    for row in _load(data / "matbench_phonons" / "matbench_phonons.json.gz"):
        yield f"petretto-2018-{row['index']}", PHONONS, row["structure"]
    for rows_of_class in _load(data / "candidate_structures" / "candidates.json.gz").values():
        for row in rows_of_class:
            if row["source"] in OTHERS:
                yield row["id"], OTHERS[row["source"]], row["structure"]


def collect(data: Path) -> None:
    """Write the compounds, each crystal once, in primitive cells."""
    matcher = StructureMatcher()
    known: dict[str, list[Structure]] = {}
    phases = []
    for name, source, content in rows(data):
        structure = Structure.from_dict(content).get_primitive_structure()
        structure = Structure(structure.lattice, [site.specie.symbol for site in structure], structure.frac_coords)
        formula = structure.composition.reduced_formula
        if len(structure.elements) == 1 or len(structure) > MAX_ATOMS:
            continue
        if any(matcher.fit(structure, other) for other in known.get(formula, ())):
            continue
        known.setdefault(formula, []).append(structure)
        phases.append(ReferencePhase(name, structure, source, "competing"))
    write_compounds(phases)
    print(f"{len(phases)} compounds of {len(known)} formulas in {COMPOUNDS_FILE}")


def relax(folder: Path, part: int, n_parts: int) -> None:
    """Relax every ``n_parts``-th phase, the most wanted first; what the folder holds is not computed again."""
    maker = BatchRelaxMaker(property=PUSHED)
    table = ResultsTable(folder / f"{part}-of-{n_parts}.sqlite")
    mine = wanted()[part - 1 :: n_parts]
    for start in range(0, len(mine), AT_ONCE):
        chunk = mine[start : start + AT_ONCE]
        summary = maker.run(table, chunk)
        print(
            f"{start + len(chunk)} of {len(mine)}: {summary.n_computed} relaxed, {summary.n_reused} known, "
            f"{summary.n_failed} failed, {summary.n_unconverged} not converged",
            flush=True,
        )


def wanted() -> list[Structure]:
    """Everything that is bundled: what the bundled campaigns need, proposals included, then the rest.

    Of the rest compounds of non-metals come first, and small cells: what a stopped run has is what most hulls ask for.
    """
    source = BundledPhases()
    systems = campaign_systems()
    first = with_proposals(systems, [phase for system in systems for phase in source.phases(system)])
    others = compounds(source.chemical_systems())
    others.sort(key=lambda phase: (all(Element(symbol).is_metal for symbol in phase.elements), len(phase.structure)))
    rest = [*bundled_elements(), *others]
    return list({input_hash(phase.structure): phase.structure for phase in [*first, *rest]}.values())


def write(folder: Path) -> None:
    """Write all that converged beside the structures."""
    path = relaxed_file("dpa4-neo")
    documents = [d for file in sorted(folder.glob("*.sqlite")) for d in ResultsTable(file).iter_calculations()]
    print(f"{write_relaxed(path, documents)} relaxations of {len(documents)} in {path}")


def campaign_systems() -> list[str]:
    """Chemical systems of the candidates of the bundled campaigns."""
    found = set()
    for folder in bundled_campaigns().values():
        for candidate in read_candidates(load_campaign(folder / CAMPAIGN_FILE).campaign.candidates):
            if candidate.structure is not None:
                found.add(structure_of_fields(candidate.structure).composition.chemical_system)
    return sorted(found)


def _load(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("collect").add_argument("data", type=Path)
    relaxing = commands.add_parser("relax")
    relaxing.add_argument("--part", default="1/1", help="share of this process, as 1/2 and 2/2")
    for command in (relaxing, commands.add_parser("write")):
        command.add_argument("--folder", type=Path, default=Path("runs/competing-phases"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.command == "collect":
        collect(arguments.data)
    elif arguments.command == "relax":
        relax(arguments.folder, *map(int, arguments.part.split("/")))
    else:
        write(arguments.folder)


if __name__ == "__main__":
    main()
