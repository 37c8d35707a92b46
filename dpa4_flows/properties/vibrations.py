"""Part of the plan of adsorption: vibrations of adsorbates, and the free energies that follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from pymatgen.core import Structure

from dpa4_core.relax import RelaxResult, Static
from dpa4_flows.analysis.free_energy import free_energy
from dpa4_flows.analysis.gas_references import gas_motion
from dpa4_flows.analysis.vibrations import LOWEST, Move, harmonic, mode_energies, moved
from dpa4_flows.compute.plan import Answer, Steps
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.surfaces import AdsorbateVibrations, AdsorptionFacet, AdsorptionSite
from dpa4_flows.properties.part import had_room

Which = Literal["none", "best", "all"]


class _Vibrating(NamedTuple):
    facet: AdsorptionFacet
    site: AdsorptionSite
    structure: Structure
    amounts: Mapping[str, int]
    moves: Mapping[Move, Structure]


def free_energies(
    facets: Sequence[AdsorptionFacet],
    ends: Sequence[Sequence[RelaxResult]],
    amounts: Mapping[str, Mapping[str, int]],
    corrections: Mapping[str, float],
    which: Which,
) -> Steps[None]:
    """Of all sites, from vibrations where these are wanted, which are asked for in one step.

    Args:
        facets: with their sites.
        ends: what became of these sites.
        amounts: atoms of each adsorbate by element.
        corrections: ΔZPE − TΔS by adsorbate, eV, that are given; these need no vibrations.
        which: sites.
    """
    wanted = list(_wanted(facets, ends, amounts, corrections, which))
    if wanted:
        answers = yield {
            f"move {number} {move}": Static(structure)
            for number, one in enumerate(wanted)
            for move, structure in one.moves.items()
        }
        had_room(answers.values())
        for number, one in enumerate(wanted):
            _vibrated(one, {move: answers[f"move {number} {move}"] for move in one.moves})
    for facet in facets:
        for site in facet.sites:
            best = facet.best(site.adsorbate)
            vibrations = site.vibrations or (None if best is None else best.vibrations)
            found = {} if vibrations is None else {site.adsorbate: vibrations.correction}
            site.free_energy = free_energy(site.adsorption_energy, site.adsorbate, {**found, **corrections})


def _wanted(
    facets: Sequence[AdsorptionFacet],
    ends: Sequence[Sequence[RelaxResult]],
    amounts: Mapping[str, Mapping[str, int]],
    corrections: Mapping[str, float],
    which: Which,
) -> Iterator[_Vibrating]:
    for facet, of_it in zip(facets, ends, strict=True):
        for site, end in zip(facet.sites, of_it, strict=True):
            name = site.adsorbate
            if (
                which == "none"
                or name in corrections
                or not (site.intact if which == "all" else site is facet.best(name))
            ):
                continue
            moves = moved(end.structure, len(end.structure) - facet.n_atoms)
            yield _Vibrating(facet, site, end.structure, amounts[name], moves)


def _vibrated(one: _Vibrating, answers: Mapping[Move, Answer]) -> None:
    site, where = one.site, f"{one.site.adsorbate} at {one.site.end} {one.site.end_elements} of ({one.facet.name})"
    failed = next((answer.error for answer in answers.values() if answer.error is not None), None)
    gas = gas_motion(one.amounts)
    if failed is not None or gas is None:
        why = failed or "zero-point energy and entropy of its gas reference are not known"
        _say(one, "no_vibrations", f"vibrations of {where} are not taken: {why}")
        return
    energies = mode_energies(one.structure, {move: answer.forces for move, answer in answers.items()})
    found = harmonic(energies)
    site.vibrations = AdsorbateVibrations(
        energies_mev=(1000 * energies).tolist(),
        zero_point_energy=found.zero_point,
        heat_content=found.heat,
        ts=found.ts,
        correction=found.total - gas,
    )
    imaginary, soft = energies[energies <= 0], energies[(energies > 0) & (energies < LOWEST)]
    if len(imaginary):
        words = f"{where} has {_modes(imaginary)} that are imaginary: it is no minimum, and they are left out"
        _say(one, "imaginary_modes", words)
    if len(soft):
        words = f"{where} has {_modes(soft)} below {1000 * LOWEST:.1f} meV, where they are put"
        site.reasons.append(Reason(code="soft_modes", sentence=words))


def _modes(energies: np.ndarray) -> str:
    return f"{len(energies)} mode(s) ({', '.join(f'{1000 * abs(energy):.1f}' for energy in energies)} meV)"


def _say(one: _Vibrating, code: str, sentence: str) -> None:
    """Of a site, and of its facet if its free energy is that of others, too."""
    reason = Reason(code=code, sentence=sentence)
    one.site.reasons.append(reason)
    if one.site is one.facet.best(one.site.adsorbate):
        one.facet.reasons.append(reason)
