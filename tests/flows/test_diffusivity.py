"""Ions that diffuse: how fast, how sure that is, what follows for room temperature, and when nothing does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.data import atomic_numbers
from pymatgen.core import Lattice, Structure
from scipy.constants import Boltzmann, elementary_charge
from test_campaign_kind import dpa4
from torch import Tensor

import dpa4_flows
from dpa4_core.data.graph import Graph
from dpa4_core.errors import DPA4Error
from dpa4_core.md import MDSettings, md
from dpa4_core.model.info import ModelInfo
from dpa4_core.potential import Output
from dpa4_core.testing import MorsePotential
from dpa4_core.units import BOLTZMANN_EV_K
from dpa4_flows.analysis.diffusion import (
    CM2_PER_S,
    Track,
    arrhenius,
    conductivity,
    diffusion,
    mean_square_displacement,
    slope,
    superionic_jump,
    unfolded,
    without_drift,
)
from dpa4_flows.compute.driver import Counts, compute
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.documents.diffusion import DiffusionDocument, DiffusivityDocument
from dpa4_flows.documents.schemas import Provenance
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties import diffusivity as properties
from dpa4_flows.properties import motion
from dpa4_flows.properties.diffusivity import Diffusivity, concluded
from dpa4_flows.report.figures_diffusion import diffusivities
from dpa4_flows.store.table import ResultsTable

LGPS = Path(__file__).parent.parent / "data" / "lgps_aimd.npz"
N_FRAMES, N_IONS = 1500, 20


def walk(rng: np.random.Generator, hops_per_frame: float = 0.2, hop: float = 3.0) -> Track:
    """Ions that hop at random along an axis, on a lattice that shakes and drifts; D = hops hop² / 6."""
    ions = np.zeros((N_FRAMES, N_IONS, 3))
    which = rng.integers(3, size=(N_FRAMES, N_IONS))
    step = rng.choice([-hop, hop], size=which.shape) * (rng.random(which.shape) < hops_per_frame)
    np.put_along_axis(ions, which[..., None], step[..., None], axis=2)
    places = np.cumsum(ions, axis=0)
    shaking = 0.1 * rng.standard_normal((N_FRAMES, 2 * N_IONS, 3))
    drift = np.linspace(0, 30, N_FRAMES)[:, None, None] * np.array([1.0, 0.0, 0.5])
    both = np.concatenate([places, np.zeros_like(places)], axis=1) + shaking + drift
    symbols = np.array(["Li"] * N_IONS + ["O"] * N_IONS)
    return Track(both.astype(np.float32), np.ones(2 * N_IONS), symbols == "Li", symbols, 0.05, hop)


# ---- one trajectory --------------------------------------------------------------------------------------------------


def test_mean_square_displacement_is_that_over_all_origins() -> None:
    positions = np.random.default_rng(0).standard_normal((30, 70, 3)).cumsum(axis=0)
    direct = [0.0] + [((positions[lag:] - positions[:-lag]) ** 2).sum(axis=2).mean() for lag in range(1, 11)]
    np.testing.assert_allclose(mean_square_displacement(positions, 10), direct, rtol=1e-9)


def test_a_random_walk_is_recovered_within_its_error_bar_in_most_cases() -> None:
    """Two of three values are within one standard error; ions that hop alone have a Haven ratio of 1."""
    known = 0.2 / 0.05 * 3.0**2 / 6
    found = [diffusion(walk(np.random.default_rng(seed))) for seed in range(30)]
    off = np.array([(one.tracer.value - known) / one.tracer.error for one in found if one.tracer])
    assert len(off) == 30 and 0.5 < np.mean(np.abs(off) < 1) < 0.9 and np.mean(np.abs(off) < 3) > 0.9
    assert np.mean([one.tracer.value for one in found if one.tracer]) == pytest.approx(known, rel=0.03)
    assert np.mean([one.collective.value for one in found if one.collective]) == pytest.approx(known, rel=0.15)
    assert found[0].n_hops == pytest.approx(0.2 * N_FRAMES * N_IONS, rel=0.2)
    assert found[0].framework_msd == pytest.approx(6 * 0.1**2, rel=0.1)  # the drift is none


def test_ions_that_only_shake_do_not_diffuse() -> None:
    found = diffusion(walk(np.random.default_rng(0), hops_per_frame=0.0))
    assert found.tracer is None and found.begin is None and found.n_hops < 10
    with pytest.raises(ValueError, match="too few"):
        diffusion(replace(walk(np.random.default_rng(0)), positions=np.zeros((79, 2 * N_IONS, 3))))


def test_atoms_are_followed_through_the_walls_of_their_cell() -> None:
    rng, cell = np.random.default_rng(0), Lattice.from_parameters(8, 9, 10, 80, 95, 110)
    inside = np.cumsum(0.05 * rng.standard_normal((200, 5, 3)), axis=0)
    np.testing.assert_allclose(unfolded(inside % 1.0, cell.matrix)[-1] - unfolded(inside % 1.0, cell.matrix)[0],
                               (inside[-1] - inside[0]) @ cell.matrix, atol=1e-9)  # fmt: skip
    with pytest.raises(ValueError, match="too far apart"):
        unfolded(rng.random((20, 50, 3)), cell.matrix)


def test_lithium_in_lgps_moves_as_another_code_says() -> None:
    """Every fifth of 211 frames of AIMD at 800 K; the numbers are those of pymatgen-analysis-diffusion 2026.9.23."""
    with np.load(LGPS) as stored:
        fractional, cell, numbers, msd = (stored[name] for name in ("fractional", "cell", "numbers", "msd"))
    symbols = np.array([next(s for s, z in atomic_numbers.items() if z == number) for number in numbers])
    positions = unfolded(fractional.astype(float), cell)
    # the other code takes the plain mean of the framework for its centre
    track = Track(positions, np.ones(len(numbers)), symbols == "Li", symbols, 0.01, 3.0)
    ours = mean_square_displacement(without_drift(track)[:, track.ions], len(msd) - 1)
    np.testing.assert_allclose(ours[1:], msd[1:], rtol=1e-4)
    lags = 0.01 * np.arange(len(msd))
    assert CM2_PER_S * slope(lags[2:], ours[2:]) == pytest.approx(float(np.load(LGPS)["diffusivity"]), rel=1e-4)


# ---- several temperatures --------------------------------------------------------------------------------------------


TEMPERATURES = (600.0, 800.0, 1000.0, 1200.0)


def law(temperature: float, energy: float = 0.3) -> float:
    return float(1e-3 * np.exp(-energy / (BOLTZMANN_EV_K * temperature)))


def test_an_activation_energy_is_within_its_error_and_an_extrapolation_too() -> None:
    rng, errors = np.random.default_rng(0), np.array([0.2, 0.1, 0.05, 0.05])
    off, off_room = [], []
    for _ in range(200):
        values = np.array([law(t) for t in TEMPERATURES]) * np.exp(errors * rng.standard_normal(4))
        line = arrhenius(TEMPERATURES, values, errors * values)
        off.append((line.activation_energy - 0.3) / line.error)
        value, error = line.at(300.0)
        off_room.append((value - np.log(law(300.0))) / error)
    for one in (off, off_room):
        assert 0.6 < np.mean(np.abs(one) < 1) < 0.9
    assert line.r2 > 0.95
    noise = arrhenius(TEMPERATURES, [1e-5, 3e-5, 1e-5, 3e-5], [1e-6] * 4)
    assert noise.r2 < 0.95 and noise.error > 0.05


def test_a_jump_between_two_temperatures_is_seen_where_the_line_still_fits() -> None:
    errors = [0.05 * law(t) for t in TEMPERATURES]
    assert superionic_jump(TEMPERATURES, [law(t) for t in TEMPERATURES], errors) is None
    jumping = [law(t) * (3.0 if t > 900 else 1.0) for t in TEMPERATURES]
    assert arrhenius(TEMPERATURES, jumping, errors).r2 > 0.95
    low, high, factor = superionic_jump(TEMPERATURES, jumping, [0.05 * one for one in jumping]) or (0, 0, 0)
    assert (low, high) == (800.0, 1000.0) and factor == pytest.approx(3.0, rel=0.05)
    assert superionic_jump(TEMPERATURES[:3], jumping[:3], errors[:3]) is None


def test_conductivity_is_that_of_nernst_and_einstein() -> None:
    """n q² D/kT of one charge in a cube of 10 Å with 1e-6 cm²/s at 300 K, in SI units."""
    per_metre = 1e27 * elementary_charge**2 * 1e-10 / (Boltzmann * 300.0)
    assert conductivity(1e-3, 1.0, 1e-6, 300.0) == pytest.approx(10 * per_metre)
    assert conductivity(1e-3, 2.0, 1e-6, 300.0) == pytest.approx(4 * conductivity(1e-3, 1.0, 1e-6, 300.0))


def test_what_several_temperatures_say_is_refused_flagged_or_told_with_its_error() -> None:
    origin = Provenance(model_name="toy", model_sha256="", level_of_theory="", code_version="")

    def said(*factors: float, ion: str = "Li", anion: str = "O") -> DiffusivityDocument:
        runs = [
            DiffusionDocument(formula="x", working_ion=ion, temperature_k=t, density=1e-2, provenance=origin)
            for t in TEMPERATURES[: len(factors)]
        ]
        for run, factor in zip(runs, factors, strict=True):
            run.diffusivity = factor * law(run.temperature_k)
            run.diffusivity_std = 0.05 * run.diffusivity
        return concluded(runs, Structure(Lattice.cubic(4), [ion, anion], [[0, 0, 0], [0.5, 0.5, 0.5]]), origin)

    good = said(1, 1, 1, 1)
    assert not good.doubts and good.activation_energy == pytest.approx(0.3) and good.r2 == pytest.approx(1)
    assert good.conductivity_300k == pytest.approx(conductivity(1e-2, 1, law(300.0), 300.0))
    assert (good.conductivity_300k_low or 0) * (good.conductivity_300k_high or 0) == pytest.approx(
        (good.conductivity_300k or 0) ** 2
    )
    assert [one.code for one in said(1, 1).doubts] == ["too_few_temperatures"]
    bent = said(1, 20, 0.1, 1)
    assert [one.code for one in bent.doubts] == ["no_line"] and bent.activation_energy is bent.conductivity_300k is None
    (jump,) = said(1, 1, 3, 3).doubts
    assert jump.code == "superionic_jump" and "conductivity_300k" in jump.voids
    copper = said(1, 1, 1, ion="Cu", anion="Au")
    assert [one.code for one in copper.doubts] == ["no_charge"] and copper.conductivity_300k is None


# ---- the property ----------------------------------------------------------------------------------------------------


class FreeLithium(MorsePotential):
    """Lithium that feels nothing: under friction it moves as Brown and Einstein say, D = kT/(m γ)."""

    info = ModelInfo(name="free")

    def __init__(self) -> None:
        super().__init__(depth=2.0)  # copper, which is to stay

    def pair_energy(self, distance: Tensor, z_i: Tensor, z_j: Tensor) -> Tensor:
        return super().pair_energy(distance, z_i, z_j) * ((z_i != 3) & (z_j != 3))


class Interrupted(FreeLithium):
    """Stands for a process that is killed."""

    n_calls, last = 0, 10**9

    def compute(self, graph: Graph) -> Output:
        Interrupted.n_calls += 1
        if Interrupted.n_calls > Interrupted.last:
            raise KeyboardInterrupt
        return super().compute(graph)


CRYSTAL = Structure(3.73 / 2 * (1 - np.eye(3)), ["Li", "Cu"], [[0, 0, 0], [0.5, 0.5, 0.5]])
FREE = ModelRef("test_diffusivity:FreeLithium", dtype="float64")
BROWNIAN = Diffusivity(
    temperatures=(800.0, 1200.0, 2000.0),
    time_ps=3.0,
    equilibration_ps=0.2,
    timestep_fs=10.0,
    thermostat="langevin",
    friction_per_ps=10.0,
    interval_fs=20.0,
    min_length=5.0,
)


def test_free_ions_diffuse_as_einstein_says_and_a_killed_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All temperatures share force calls, and what a kill left is found."""
    monkeypatch.setattr(motion, "PIECE", 80)
    monkeypatch.setattr(properties, "MIN_HOPS", 100)
    table, model = ResultsTable(tmp_path / "t.sqlite"), replace(FREE, name="test_diffusivity:Interrupted")
    asks = [(0, Ask(BROWNIAN, Crystal(CRYSTAL)))]
    Interrupted.n_calls, Interrupted.last = 0, 200
    with pytest.raises(KeyboardInterrupt):
        list(compute(asks, model, table))
    assert table.has_parts()
    Interrupted.n_calls, Interrupted.last = 0, 10**9
    ((_, found),) = compute(asks, model, table, counts=(counts := Counts()))
    assert Interrupted.n_calls == 2 * 81  # the last two of four pieces
    assert counts.n_requests == 6
    for run in found.runs:
        expected = BOLTZMANN_EV_K * run.temperature_k * 9648.533 / 6.94 / 10.0 * CM2_PER_S
        assert run.diffusivity == pytest.approx(expected, abs=3 * run.diffusivity_std + 0.1 * expected), (
            run.temperature_k
        )
        assert (
            run.n_atoms == 16
            and run.n_ions == 8
            and run.mean_temperature_k == pytest.approx(run.temperature_k, rel=0.2)
        )
    assert found.n_temperatures == 3 and found.charge == 1
    words = [block.title for block in diffusivities({"LiCu": found})]
    assert words == ["Diffusivity against temperature", "Mean square displacement", "Temperatures"]
    assert BROWNIAN.cost(Crystal(CRYSTAL)) == (3 * 321, 3 * 321 * 16)
    Interrupted.last = 0
    ((_, again),) = compute(asks, model, table)
    assert again == found


def test_a_crystal_whose_ions_stay_or_whose_framework_moves_has_no_conductivity() -> None:
    short = replace(BROWNIAN, temperatures=(300.0,), time_ps=1.7)
    bound = Structure(Lattice.cubic(3.0), ["Li", "Cu"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    asks: list[Any] = [
        ("stay", Ask(short, Crystal(bound), model=replace(FREE, name="toy_potentials:OMatMorse"))),
        ("move", Ask(replace(short, working_ion="Cu"), Crystal(CRYSTAL))),
        ("none", Ask(replace(short, working_ion="Na"), Crystal(CRYSTAL))),
    ]
    found = dict(compute(asks, FREE))
    for name, code in (("stay", "too_few_hops"), ("move", "framework_moved")):
        document = found[name]
        assert document.error is None and document.activation_energy is document.conductivity_300k is None
        assert [one.code for one in document.doubts] == [code, "too_few_temperatures"]
        assert document.runs[0].diffusivity is None
    assert found["none"].error_code == "no_ion"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"temperatures": ()}, "one or more"),
        ({"temperatures": (600.0, 600.0)}, "twice"),
        ({"thermostat": "bath"}, "nose-hoover"),
        ({"working_ion": "Xx"}, "no element"),
        ({"interval_fs": 1.0}, "shorter than a time step"),
        ({"time_ps": 1.0}, "fewer than 80"),
        ({"min_length": 0.0}, "positive"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(DPA4Error, match=words):
        replace(Diffusivity(), **given).check()


# ---- trajectories that are there -------------------------------------------------------------------------------------


def write_walks(folder: Path) -> Iterator[Path]:
    """Walks whose rates follow an activation energy of 0.2 eV, folded into their cell."""
    for place, temperature in enumerate(TEMPERATURES):
        track = walk(
            np.random.default_rng(place), hops_per_frame=0.9 * law(temperature, 0.2) / law(TEMPERATURES[-1], 0.2)
        )
        origin = np.random.default_rng(9).random((2 * N_IONS, 3)) * 20
        frames = [
            Atoms(track.symbols.tolist(), one + origin, cell=[20, 20, 20], pbc=True) for one in track.positions[:500]
        ]
        for frame in frames:
            frame.wrap()
        path = folder / f"{temperature:.0f}.extxyz"
        ase.io.write(path, frames, columns=["symbols", "positions"])
        yield path


def test_trajectories_of_other_codes_are_read_and_concluded_from(tmp_path: Path) -> None:
    files = list(write_walks(tmp_path))
    flags = [f"--temperature-k={t:g}" for t in TEMPERATURES]
    answer = dpa4("msd", *files, *flags, "--interval-fs", 50, "--report", tmp_path / "msd.html", "--json")
    assert answer.exit_code == 0, answer.output
    [row] = json.loads(answer.stdout)
    found = row["diffusivity"]
    assert found["formula"] == "Li2O2" and found["n_temperatures"] == 4
    # a walk of the lattice that hop lengths are told from is none here: rates count, not how many hops they are
    assert found["activation_energy"] == pytest.approx(0.2, abs=3 * found["activation_energy_std"])
    assert found["conductivity_300k_low"] < found["conductivity_300k"] < found["conductivity_300k_high"]
    page = (tmp_path / "msd.html").read_text()
    assert "Mean square displacement" in page and "Activation energy" in page
    few = dpa4("msd", files[0], *flags[:2], "--interval-fs", 50)
    assert few.exit_code == 1 and "one for each" in few.output
    silent = dpa4("msd", files[0], flags[0])
    assert silent.exit_code == 1 and "--interval-fs" in silent.output
    absent = dpa4("msd", tmp_path / "absent.traj")
    assert absent.exit_code == 1 and "there is no file" in absent.output


def test_a_run_of_ours_says_its_times_and_temperatures_itself(tmp_path: Path) -> None:
    atoms = Atoms("LiCu", positions=[[0, 0, 0], [1.35, 1.35, 1.35]], cell=[2.7] * 3, pbc=True) * (2, 1, 1)
    settings = MDSettings(temperature=300.0, timestep_fs=4.0, time_ps=0.37, every=1)
    md(atoms, MorsePotential(cutoff=4.0), settings, output=tmp_path / "run.traj")
    [found] = dpa4_flows.diffusion_in(tmp_path)
    run = found.runs[0]
    assert run.temperature_k == 300.0 and run.time_ps == pytest.approx(0.368) and run.refused.code == "too_few_hops"
    assert found.provenance.model_name == "MorsePotential"
    # a last step between the others, and a run that was prolonged beyond it
    parts = tmp_path / "parts"
    parts.mkdir()
    for steps in (41, 184):
        longer = replace(settings, time_ps=0.004 * steps, every=2)
        md(atoms, MorsePotential(cutoff=4.0), longer, output=parts / "run.traj")
    [found] = dpa4_flows.diffusion_in(parts)
    assert found.runs[0].time_ps == pytest.approx(0.736)
    nobody = dpa4_flows.TrajectoryReading(working_ion="Na")
    with pytest.raises(DPA4Error, match="holds no Na"):
        dpa4_flows.diffusion_in(tmp_path / "run.traj", nobody)
