"""How fast ions diffuse in a crystal that is warm, and how well they conduct at room temperature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np
from pymatgen.core import Element, Structure

from dpa4_core.data.structures import to_system
from dpa4_core.data.system import standard_masses
from dpa4_core.errors import DPA4Error
from dpa4_core.md.settings import THERMOSTATS, MDSettings
from dpa4_core.strict import meant
from dpa4_flows.analysis.diffusion import (
    CM2_PER_S,
    FRAMEWORK_MOVED,
    MIN_FRAMES,
    MIN_HOPS,
    MIN_R2,
    MIN_TEMPERATURES,
    Diffusion,
    Track,
    arrhenius,
    conductivity,
    diffusion,
    hop_length,
    superionic_jump,
)
from dpa4_flows.analysis.ions import ION_CHARGES
from dpa4_flows.analysis.oxidation import guess_oxidation_states
from dpa4_flows.compute.plan import NO_NUMBER, Ask, Crystal, Plan, PlanError, Property
from dpa4_flows.documents.diffusion import DiffusionDocument, DiffusivityDocument
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Document, Provenance
from dpa4_flows.properties.limits import check_positive
from dpa4_flows.properties.motion import moments, n_steps, supercell
from dpa4_flows.properties.part import check_ion, whole_crystal

D = TypeVar("D", bound=AnswerDocument)

ROOM_K = 300.0
_POINTS = 60  # of a curve that is kept


@dataclass(frozen=True)
class InMotion(Property[D]):
    """Base of properties of ions in motion.

    Attributes:
        working_ion: element that diffuses; the others are the framework.
        time_ps: of each trajectory that counts, ps.
        equilibration_ps: before it, ps.
        timestep_fs: fs; take 0.5 where there is hydrogen.
        thermostat: nose-hoover, or langevin, whose friction slows ions down.
        thermostat_fs: relaxation time of nose-hoover, fs.
        friction_per_ps: of langevin, 1/ps.
        interval_fs: between two moments that are looked at, fs.
        min_length: Å, between an ion and its image.
        max_atoms: a crystal that needs a larger supercell has an error instead.
        seed: of velocities and random forces.
    """

    starts_from_rest: ClassVar[bool] = True

    working_ion: str = "Li"
    time_ps: float = 100.0
    equilibration_ps: float = 5.0
    timestep_fs: float = 2.0
    thermostat: str = "nose-hoover"
    thermostat_fs: float = 100.0
    friction_per_ps: float = 1.0
    interval_fs: float = 50.0
    min_length: float = 10.0
    max_atoms: int = field(default=300, metadata=NO_NUMBER)
    seed: int = 0

    def check(self) -> None:
        lengths = ("time_ps", "equilibration_ps", "timestep_fs", "thermostat_fs", "friction_per_ps", "interval_fs")
        check_positive(self, *lengths, "min_length", "max_atoms")
        if not Element.is_valid_symbol(self.working_ion):
            raise DPA4Error(f"working_ion: {self.working_ion!r} is no element")
        if self.thermostat not in THERMOSTATS:
            raise DPA4Error(f"thermostat: {meant(self.thermostat, THERMOSTATS)}")
        if self.interval_fs < self.timestep_fs:
            raise DPA4Error(
                f"interval_fs = {self.interval_fs:g} is shorter than a time step of {self.timestep_fs:g} fs"
            )
        if 1000 * self.time_ps < MIN_FRAMES * self.interval_fs:
            raise DPA4Error(
                f"time_ps = {self.time_ps:g} has fewer than {MIN_FRAMES} intervals of {self.interval_fs:g} fs: choose "
                "a longer time or a shorter interval_fs"
            )

    def admit(self, crystal: Crystal) -> None:
        check_ion(crystal, self.working_ion)

    def facts(self, crystal: Crystal, error: PlanError) -> dict[str, Any]:
        formula = crystal.structure.composition.reduced_formula
        return {"formula": formula, "working_ion": self.working_ion}

    def _start(self, crystal: Crystal) -> Structure:
        """The supercell in which ions move.

        Raises:
            PlanError: there is none, or no ion in it.
        """
        self.admit(crystal)
        return supercell(crystal, self.min_length, self.max_atoms)

    @property
    def _steps(self) -> tuple[int, int]:
        """Before and while it counts."""
        return n_steps(self.equilibration_ps, self.timestep_fs), n_steps(self.time_ps, self.timestep_fs)


@dataclass(frozen=True)
class DiffusionAt(InMotion[DiffusionDocument]):
    """Diffusivity at one temperature.

    Attributes:
        temperature_k: K.
    """

    name: ClassVar[str] = "diffusion_at"
    document: ClassVar[type[Document]] = DiffusionDocument

    temperature_k: float = 1000.0

    def plan(self, crystal: Crystal) -> Plan[DiffusionDocument]:
        start, (before, counted) = self._start(crystal), self._steps
        every = max(1, round(self.interval_fs / self.timestep_fs))
        settings = MDSettings(
            thermostat=self.thermostat,
            temperature=self.temperature_k,
            time_ps=(before + counted) * self.timestep_fs / 1000,
            timestep_fs=self.timestep_fs,
            friction_per_ps=self.friction_per_ps,
            thermostat_fs=self.thermostat_fs,
            every=every,
            seed=self.seed,
        )
        motion = yield from moments(start, settings, before)
        track = track_of(start, motion.positions, self.working_ion, every * self.timestep_fs / 1000)
        return at_temperature(start, track, self.temperature_k, motion.temperature, self.origin(crystal))

    def facts(self, crystal: Crystal, error: PlanError) -> dict[str, Any]:
        return super().facts(crystal, error) | {"temperature_k": self.temperature_k}


@dataclass(frozen=True)
class Diffusivity(InMotion[DiffusivityDocument]):
    """Diffusion of an ion through a relaxed crystal by dynamics at several temperatures, and its conductivity at 300 K.

    Attributes:
        temperatures: K; one trajectory at each, all of them together.
    """

    name: ClassVar[str] = "diffusivity"
    example: ClassVar[str] = "Li3OCl.cif --temperatures 600,800,1000 -o run"
    document: ClassVar[type[Document]] = DiffusivityDocument
    figures: ClassVar[str] = "dpa4_flows.report.figures_diffusion:diffusivities"
    caveats: ClassVar[tuple[str, ...]] = (
        "Diffusivities are those of picoseconds in a small cell of fixed shape, with the vacancies and interstitials "
        "that the structure has or makes in that time; the conductivity at 300 K is extrapolated from far above, and "
        "takes ions to hop alone. Its error bar is statistical: that of the model is not in it.",
    )

    temperatures: tuple[float, ...] = (600.0, 800.0, 1000.0, 1200.0)

    def check(self) -> None:
        super().check()
        if not self.temperatures or min(self.temperatures) <= 0:
            raise DPA4Error("temperatures are one or more positive numbers of K")
        if len(set(self.temperatures)) < len(self.temperatures):
            raise DPA4Error("temperatures: one of them is named twice")

    def cost(self, crystal: Crystal) -> tuple[int, int]:
        """Every step is a calculation."""
        n_atoms = len(self._start(crystal))
        n_calls = (sum(self._steps) + 1) * len(self.temperatures)
        return n_calls, n_calls * n_atoms

    def plan(self, crystal: Crystal) -> Plan[DiffusivityDocument]:
        self.check()
        self._start(crystal)
        shared = {name: value for name, value in vars(self).items() if name != "temperatures"}
        asks = {
            f"{temperature:g} K": Ask(
                DiffusionAt(**shared | {"temperature_k": temperature, "seed": self.seed + place}), crystal
            )
            for place, temperature in enumerate(self.temperatures)
        }
        found = yield asks
        runs = [found[name] for name in asks]
        failed = [one for one in runs if one.error is not None]
        if len(failed) == len(runs):
            raise PlanError(str(failed[0].error), failed[0].error_code or "not_computed")
        return concluded(runs, whole_crystal(crystal), self.origin(crystal))


def track_of(start: Structure, positions: Any, ion: str, interval_ps: float) -> Track:
    """Positions [n_frames, n_atoms, 3] in Å of the crystal ``start`` in motion."""
    system = to_system(start)
    symbols = np.array([site.specie.symbol for site in start])
    return Track(
        positions=positions,
        masses=standard_masses(system.numbers) if system.masses is None else system.masses,
        ions=symbols == ion,
        symbols=symbols,
        interval_ps=interval_ps,
        hop=hop_length(start.frac_coords[symbols == ion], start.lattice),
    )


def at_temperature(
    start: Structure, track: Track, temperature_k: float, mean_temperature_k: float | None, origin: Provenance
) -> DiffusionDocument:
    """The document of a trajectory.

    Raises:
        PlanError: it has too few frames.
    """
    try:
        found = diffusion(track)
    except ValueError as error:
        raise PlanError(f"{error}: a longer time_ps or a shorter interval", "too_short") from error
    shown = np.unique(np.linspace(0, len(found.msd) - 1, _POINTS).round().astype(int))
    document = DiffusionDocument(
        formula=start.composition.reduced_formula,
        working_ion=str(track.symbols[track.ions][0]),
        temperature_k=temperature_k,
        mean_temperature_k=mean_temperature_k,
        time_ps=track.duration_ps,
        n_atoms=len(start),
        n_ions=track.n_ions,
        density=track.n_ions / float(start.volume),
        hop_length=track.hop,
        n_hops=found.n_hops,
        framework_msd=found.framework_msd,
        lags_ps=found.lags_ps[shown].tolist(),
        msd=found.msd[shown].tolist(),
        refused=_refused(track, found),
        provenance=origin,
    )
    if document.refused is None and found.tracer is not None and found.collective is not None:
        tracer, collective = found.tracer, found.collective
        document.fit_from_ps = float(found.lags_ps[found.begin or 0])
        document.diffusivity, document.diffusivity_std = (CM2_PER_S * one for one in tracer)
        document.collective_diffusivity, document.collective_diffusivity_std = (CM2_PER_S * one for one in collective)
        if collective.value > 2 * collective.error:
            document.haven_ratio = tracer.value / collective.value
            relative = math.hypot(tracer.error / tracer.value, collective.error / collective.value)
            document.haven_ratio_std = document.haven_ratio * relative
    return document


def concluded(runs: Sequence[DiffusionDocument], crystal: Structure, origin: Provenance) -> DiffusivityDocument:
    """What several temperatures say together.

    Args:
        runs: of each temperature; one that failed is told.
        crystal: for the charge of its ions.
        origin: of the document.
    """
    ordered = sorted(runs, key=lambda one: one.temperature_k)
    used = [one for one in ordered if one.diffusivity is not None]
    ion = runs[0].working_ion
    document = DiffusivityDocument(
        formula=runs[0].formula,
        working_ion=ion,
        charge=_charge(ion, crystal),
        n_temperatures=len(used),
        runs=ordered,
        n_atoms=max(one.n_atoms for one in runs),
        doubts=[_left_out(one) for one in ordered if one not in used],
        provenance=origin,
    )
    if len(used) < MIN_TEMPERATURES:
        words = f"no activation energy: {len(used)} of {len(runs)} temperatures have a diffusivity, a line needs 3"
        document.doubts.append(Reason(code="too_few_temperatures", sentence=words))
        return document
    points = [one.temperature_k for one in used], *zip(*map(_with_error, used), strict=True)
    line = arrhenius(*points)
    document.r2 = line.r2
    if line.r2 < MIN_R2:
        words = f"no activation energy: a line explains {line.r2:.2f} of the variance of ln D over 1/kT, not {MIN_R2}"
        document.doubts.append(Reason(code="no_line", sentence=words))
        return document
    document.activation_energy, document.activation_energy_std = line.activation_energy, line.error
    document.ln_prefactor = line.ln_prefactor
    if (jump := superionic_jump(*points)) is not None:
        low, high, factor = jump
        words = (
            f"D jumps by a factor {factor:.1f} between {low:g} and {high:g} K: what conducts above is not there below"
        )
        voids = ["activation_energy", "conductivity_300k", "diffusivity_300k"]
        document.doubts.append(Reason(code="superionic_jump", sentence=words, voids=voids))
    logarithm, error = line.at(ROOM_K)
    document.diffusivity_300k = math.exp(logarithm)
    if document.charge is None:
        words = f"no conductivity: the charge of {ion} in {runs[0].formula} is not known"
        document.doubts.append(Reason(code="no_charge", sentence=words))
        return document
    density = used[0].density or 0.0
    at_room = [
        conductivity(density, document.charge, math.exp(logarithm + sign * error), ROOM_K) for sign in (-1, 0, 1)
    ]
    document.conductivity_300k_low, document.conductivity_300k, document.conductivity_300k_high = at_room
    return document


def _refused(track: Track, found: Diffusion) -> Reason | None:
    """Why a trajectory has no diffusivity."""
    moved = found.framework_msd
    if moved is not None and moved > FRAMEWORK_MOVED:
        words = f"the framework moved: its mean square displacement is {moved:.1f} Å², not below {FRAMEWORK_MOVED:g}"
        return Reason(code="framework_moved", sentence=f"{words}; it melted or changed")
    if found.tracer is None or found.tracer.value <= 0 or found.n_hops < MIN_HOPS:
        words = f"ions made about {found.n_hops:.0f} hops in {track.duration_ps:.3g} ps, not {MIN_HOPS}"
        if found.tracer is None:
            half = len(found.msd) // 2
            gone = f"{found.msd[half]:.2g} Å² within {found.lags_ps[half]:.3g} ps"
            hop = f"half of a squared hop of {track.hop:.2f} Å"
            words = f"ions hardly leave their places: their mean square displacement is {gone}, less than {hop}"
        return Reason(code="too_few_hops", sentence=words)
    return None


def _left_out(run: DiffusionDocument) -> Reason:
    code = run.refused.code if run.refused else run.error_code or "not_computed"
    words = run.refused.sentence if run.refused else run.error
    return Reason(code=code, sentence=f"{run.temperature_k:g} K is left out: {words}")


def _with_error(run: DiffusionDocument) -> tuple[float, float]:
    assert run.diffusivity is not None and run.diffusivity_std is not None, "a run in the fit has both"
    return run.diffusivity, run.diffusivity_std


def _charge(ion: str, crystal: Structure) -> float | None:
    """Elementary charges of an ion: the usual one, or that which makes the crystal neutral."""
    known = ION_CHARGES.get(ion) or guess_oxidation_states(crystal.composition).get(ion)
    return float(known) if known else None
