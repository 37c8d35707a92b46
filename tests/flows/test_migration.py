"""Hops of ions through crystals, and the paths that they take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read
from jobflow import Flow, job
from pymatgen.core import Lattice, Structure
from test_campaign_kind import dpa4
from toy_campaign import MORSE, STAGES, layered, write_campaign

import dpa4_flows
from dpa4_core.errors import DPA4Error
from dpa4_core.relax import Band, BandResult, matched_end, mirror_of
from dpa4_flows.analysis.diffusion import hopping_diffusivity
from dpa4_flows.analysis.migration import (
    Edge,
    Hop,
    bottleneck,
    direction,
    ends_of,
    hop_kinds,
    network,
    primitive_crystal,
    supercell_of,
    vector,
)
from dpa4_flows.campaigns.config import load_campaign
from dpa4_flows.campaigns.plan import plan_campaign
from dpa4_flows.compute.driver import Counts, compute
from dpa4_flows.compute.parts import part_of_text, request_key, text_of_part
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.engines import run_local
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.migration import Migration
from dpa4_flows.properties.neb import Neb
from dpa4_flows.report.figures_migration import hops as hop_figures
from dpa4_flows.report.figures_migration import paths as path_figures
from dpa4_flows.store.table import ResultsTable

TOY = ModelRef(MORSE, dtype="float64")
ALUMINIUM = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.73), ["Al"], [[0, 0, 0]])


def document_of(asked: Any, structure: Structure, counts: Counts | None = None) -> Any:
    ((_, document),) = compute([("x", Ask(asked, Crystal(structure)))], TOY, counts=counts)
    return document


def in_aluminium(min_length: float = 7.0) -> tuple[Structure, Structure]:
    primitive = primitive_crystal(ALUMINIUM)
    (kind,) = hop_kinds(primitive, "Al", 3.0)
    return ends_of(kind.hops[0], primitive, supercell_of(primitive, min_length, 300))


def along_a_row() -> tuple[Structure, Structure]:
    """An atom of a row with two vacancies before it, and behind them: half way there is a site to rest in."""
    crystal = primitive_crystal(ALUMINIUM)
    crystal.make_supercell([5, 3, 3], to_unit_cell=False)
    places = np.mod(crystal.frac_coords + 1e-6, 1)
    row = [i for i, place in enumerate(places) if place[1:].max() < 1e-5]
    row.sort(key=lambda i: places[i, 0])
    start, step = crystal.copy(), crystal.lattice.matrix[0] / 5
    end = crystal.copy()
    end.translate_sites([row[0]], 2 * step, frac_coords=False, to_unit_cell=False)
    for one in (start, end):
        one.remove_sites(row[1:3])
    return start, end


# ---- hops and networks


def test_the_nearest_hops_of_a_close_packed_crystal_are_one_kind() -> None:
    primitive = primitive_crystal(ALUMINIUM)
    near, far = hop_kinds(primitive, "Al", 4.0)
    assert (len(near.hops), len(far.hops)) == (12, 6) and near.both_ways
    assert near.length == pytest.approx(3.73 / 2**0.5)
    assert direction(vector(primitive, near.hops[0]), ALUMINIUM.lattice).count("1") == 2
    # through the window of four atoms half way: a sqrt(3/8) from each
    assert bottleneck(primitive, near.hops[0]) == pytest.approx(3.73 * (3 / 8) ** 0.5 - 1.25, abs=0.12)
    assert not [kind for kind in hop_kinds(primitive, "Al", 5.4) if kind.length > 5.2]  # past a site in the middle


def test_directions_are_those_of_the_crystal_that_was_given() -> None:
    """Axes that are not in the order of standard settings, and rounding of a relaxation."""
    lattice = Lattice([[10.4637, 0, 1e-5], [0, 6.0783, -1e-5], [1e-5, -1e-5, 4.7468]])
    crystal = Structure(lattice, ["Li", "O", "O"], [[0, 0, 0], [0.3, 0.1, 0.2], [0.7, 0.9, 0.8]])
    primitive = primitive_crystal(crystal)
    (kind,) = hop_kinds(primitive, "Li", 5.0)
    assert direction(vector(primitive, kind.hops[0]), crystal.lattice) == "[0 0 1]"


def test_hops_of_a_layered_oxide_stay_in_the_layer() -> None:
    primitive = primitive_crystal(layered("Co"))
    (kind,) = hop_kinds(primitive, "Li", 3.0)
    assert len(kind.hops) == 6 and kind.both_ways
    edges = [Edge(hop, 1.3, 1.0) for hop in kind.hops]
    found = network(edges)
    assert found.barriers == pytest.approx((0.3, 0.3)) and found.dimensions(0.1) == 2
    between = [Edge(hop, 1.9, 1.0) for one in hop_kinds(primitive, "Li", 5.2) for hop in one.hops]
    found = network([*between, *edges])
    assert found.barriers == pytest.approx((0.3, 0.3, 0.9)) and found.dimensions(0.1) == 2
    assert found.limiting[0] >= len(between) > found.limiting[2]


def test_a_network_leads_on_only_by_translations() -> None:
    """Two sites in a chain: a loop between them leads nowhere, and the barrier counts from the deeper one."""
    there, next_cell = Hop(0, 1, (0, 0, 0)), Hop(1, 0, (0, 1, 0))
    assert network([Edge(there, 0.5, 0.0), Edge(there, 0.6, 0.0)]).barriers == ()
    found = network([Edge(there, 0.5, 0.1), Edge(next_cell, 0.4, 0.0)])
    assert found.barriers == (0.5,) and found.limiting == (0,)
    apart = [Edge(Hop(0, 0, (0, 0, 1)), 0.7, 0.0), Edge(Hop(1, 1, (0, 1, 0)), 0.3, 0.2)]
    assert network(apart).barriers == pytest.approx((0.1,))  # two chains in two directions are no plane


def test_diffusion_coefficient_is_that_of_a_random_walk() -> None:
    assert hopping_diffusivity(3.0, 0.3, 10.0, 300.0) == pytest.approx(9e-16 * 1e13 * np.exp(-0.3 / 0.0258520))


def test_the_ends_of_a_hop_differ_by_the_hop_alone() -> None:
    start, end = in_aluminium()
    ways = np.linalg.norm(end.cart_coords - start.cart_coords, axis=1)
    assert len(start) == 31 and np.sum(ways > 1e-6) == 1 and ways.max() == pytest.approx(3.73 / 2**0.5)
    assert min(one.distance_matrix[np.triu_indices(31, 1)].min() for one in (start, end)) > 2.6
    mirror = mirror_of(start, end)
    assert mirror is not None
    np.testing.assert_allclose(mirror.other_end(start).cart_coords, end.cart_coords, atol=1e-6)
    for atom, symbol in ((3, "Mg"), (8, "Ca"), (11, "Zn"), (17, "Sr")):  # nothing takes all of them to themselves
        start.replace(atom, symbol)
        end.replace(atom, symbol)
    assert mirror_of(start, end) is None


# ---- paths


def test_the_middle_of_a_symmetric_path_is_as_high_as_that_of_a_band() -> None:
    start, end = in_aluminium()
    alone, together = Counts(), Counts()
    middle = document_of(Neb(end=end, end_fmax=0.005), start, alone)
    shuffled = Structure.from_sites(list(reversed(end.sites)), to_unit_cell=True)
    band = document_of(Neb(end=shuffled, n_images=3, fmax=0.02, end_fmax=0.005, symmetric=False), start, together)
    assert (middle.method, band.method) == ("middle", "band") and middle.converged and band.converged
    assert middle.barrier == pytest.approx(band.barrier, abs=1e-3)
    assert middle.barrier == middle.barrier_back == middle.kra
    assert alone.n_force_calls < together.n_force_calls / 2
    assert len(band.images) == len(band.energies) == 5 and band.distances[0] == 0.0
    assert band.energies[2] == max(band.energies) == band.barrier
    (block,) = path_figures({"hop": band})
    assert max(block.figure.data[0].y) == pytest.approx(band.barrier)  # the line goes no higher than the saddle


def test_a_cell_with_the_rounding_of_float32_has_a_middle_too() -> None:
    start, end = in_aluminium(5.0)
    rounding = Lattice(start.lattice.matrix * (1 + 1e-7 * np.random.default_rng(0).normal(size=(3, 3))))
    start.lattice = end.lattice = rounding
    found = document_of(Neb(end=end), start)
    assert found.error is None and found.method == "middle" and found.barrier > 0.1


def test_a_middle_in_which_the_ion_rests_is_no_saddle() -> None:
    start, end = along_a_row()
    assert mirror_of(start, end) is not None
    still = 50.0  # eV/Å: nothing moves, and the site half way is as deep as it is in the crystal
    found = document_of(Neb(end=end, n_images=3, fmax=still, end_fmax=still), start)
    assert found.method == "band" and found.barrier > 0.1
    assert found.energies[2] < found.barrier  # down half way


def test_a_path_needs_ends_that_belong_together() -> None:
    start, end = in_aluminium()
    assert document_of(Neb(), start).error_code == "no_end"
    assert document_of(Neb(end=start), start).error_code == "no_path"
    end.remove_sites([0])
    found = document_of(Neb(end=end), start)
    assert found.error_code == "refused" and "different atoms" in found.error
    with pytest.raises(DPA4Error, match="n_images must be 1 or more"):
        Neb(n_images=0).check()


def test_results_of_bands_come_back_from_text_to_the_last_digit() -> None:
    start, end = in_aluminium()
    band = Band([start, matched_end(start, end), end], (-1.0, -2.0))
    result = BandResult((start, start, end), (-1.0, 1 / 3, -2.0), True, 7, 0.04, "converged", n_force_calls=8)
    again = part_of_text(text_of_part(result), band)
    assert isinstance(again, BandResult) and again.energies == result.energies and again.images[2] == end
    assert again.barrier_back == result.barrier_back == 1 / 3 + 2.0
    other = Band([start, start, end], (-1.0, -2.0))
    assert request_key(band, TOY) != request_key(other, TOY) != request_key(Band(other.images, (-1.0, 0.0)), TOY)


# ---- migration through a crystal


def test_migration_through_a_close_packed_metal_is_the_same_along_all_directions() -> None:
    counts = Counts()
    asked = Migration(working_ion="Al", min_length=7.0, max_hop=3.0)
    found = document_of(asked, ALUMINIUM, counts)
    assert found.migration_barrier == found.barrier_3d == found.hops[0].barrier == pytest.approx(0.527, abs=0.005)
    assert found.dimensionality == 3 and found.path.count("1") == 2 and found.converged
    assert [one.code for one in found.doubts] == ["small_cell"] and "7.5 Å" in found.doubts[0].sentence
    assert found.vacancy_diffusivity == hopping_diffusivity(found.hops[0].distance, found.migration_barrier, 10, 300)
    assert asked.cost(Crystal(ALUMINIUM)) == (counts.n_requests, counts.n_atoms) == (3, 93)
    figure, table = hop_figures({"Al": found})
    assert len(table.rows) == 1 and table.rows[0][-1] == "middle" and len(figure.figure.data) == 2


def test_ions_in_layers_do_not_leave_them() -> None:
    found = document_of(Migration(min_length=5.0, max_hop=3.0), layered("Co"))
    assert found.dimensionality == 2 and found.barrier_3d is None and found.barrier_2d == found.migration_barrier
    narrow = document_of(Migration(min_bottleneck=2.0, max_hop=3.0), layered("Co"))
    assert narrow.hops[0].barrier is None and [doubt.code for doubt in narrow.doubts] == ["no_network"]


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({}, "no_ion"),
        ({"working_ion": "Al", "max_hop": 1.0}, "no_hop"),
        ({"working_ion": "Al", "max_supercell_atoms": 9}, "too_large"),
    ],
)
def test_crystals_without_hops_say_why(settings: dict[str, Any], code: str) -> None:
    found = document_of(Migration(**settings), ALUMINIUM)
    assert found.error_code == code and found.migration_barrier is None
    assert Migration(**settings).cost_if_any(Crystal(ALUMINIUM)) == (0, 0)


# ---- command, function, job, campaign


def test_neb_is_a_command_and_a_function(tmp_path: Path) -> None:
    start, end = in_aluminium(5.0)
    start.to(str(tmp_path / "a.cif"))
    end.to(str(tmp_path / "b.vasp"), fmt="poscar")
    files = (tmp_path / "a.cif", tmp_path / "b.vasp")
    out = tmp_path / "path.extxyz"
    done = dpa4("neb", *files, "-m", MORSE, "-o", out, "--report", tmp_path / "path.html", "--json")
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)[0]["neb"]
    images: Any = read(out, ":")
    assert len(images) == 3
    assert images[1].get_potential_energy() - images[0].get_potential_energy() == pytest.approx(row["barrier"])
    page = (tmp_path / "path.html").read_text()
    assert "Energy along the path" in page and row["provenance"]["model_sha256"] in page
    found = dpa4_flows.neb(*files, model=MORSE)
    assert found[0].barrier == pytest.approx(row["barrier"], abs=1e-6)
    refused = dpa4("neb", tmp_path / "a.cif", tmp_path / "none.cif", "-m", MORSE)
    assert refused.exit_code == 1 and "none.cif" in refused.output
    with pytest.raises(DPA4Error, match="not kept in a folder"):
        dpa4_flows.neb(*files, model=MORSE, folder=tmp_path)


@job
def given(structure: Structure) -> Structure:
    return structure


def test_a_path_is_a_job_between_outputs_of_jobs(tmp_path: Path) -> None:
    start, end = in_aluminium(5.0)
    before, after = given(start), given(end)
    maker = dpa4_flows.NebMaker(model=MORSE, path=Neb(keep_images=False))
    path = maker.make(before.output, after.output, str(tmp_path / "paths.sqlite"))
    responses = run_local(Flow([before, after, path]), tmp_path / "jobs")
    output = responses[path.uuid][1].output
    assert output.n_failed == output.n_unconverged == 0 and output.documents[0]["barrier"] > 0.1


@pytest.mark.slow
def test_a_battery_campaign_looks_at_the_hops_of_what_is_left(tmp_path: Path) -> None:
    stages = ["sanity", "duplicates", "relax", "hull", "delithiate", "relax_charged", "electrode", "charged_hull"]
    tables = {"migration": {"min_length": 5.0, "max_hop": 3.0, "migration_barrier": {"max": 1e-4, "otherwise": "flag"}}}
    file = write_campaign(tmp_path, campaign={"stages": [*stages, "at_rest", "migration"]}, **tables)
    done = dpa4("screen", file, "--out", tmp_path / "run")
    assert done.exit_code in (0, 3), done.output
    found = ResultsTable(tmp_path / "run" / "results.sqlite").stage("migration")
    assert {one.status for one in found.values()} == {"flagged"}  # too slow, or through no window of the toy
    assert [one.values["dimensionality"] for one in found.values() if one.values] == [2]
    assert dpa4("report", tmp_path / "run").exit_code == 0


def test_a_battery_campaign_counts_the_hops_that_it_is_asked_for(tmp_path: Path) -> None:
    stages = [*STAGES, "at_rest", "migration"]
    small = {"min_length": 5.0, "max_hop": 3.0}
    file = write_campaign(tmp_path, campaign={"stages": stages}, migration=small)
    (found,) = (
        work for work in plan_campaign(load_campaign(file), tmp_path / "run").work if work.name == "hops of the ion"
    )
    assert found.at_most and found.n_atoms > 30 * found.n_structures > 0  # supercells
    usual = plan_campaign(load_campaign(write_campaign(tmp_path / "usual")), tmp_path / "run")
    assert "hops of the ion" not in [work.name for work in usual.work]
