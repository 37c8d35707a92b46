"""Insertion electrodes: voltage, capacity and volume change between a discharged and a charged compound.

For A_n H → H + n A, with energies of the same formula unit and the working ion A of charge z:

    average voltage   V = −[E(A_n H) − E(H) − n E(A)] / (n z)
    capacity          C = n z F / (3600 s/h · M),  F in C/mol, M in g/mol of the discharged compound: Ah/g

(M. K. Aydinol et al., Phys. Rev. B 56, 1354 (1997)), at 0 K and without the small pΔV and entropy terms.
Energies are the uncorrected ones of one model: oxide and host lie on the same side of the PBE/PBE+U seam, so
that the corrections cancel, while a correction applied to one end only (CoO2 taken for a superoxide) would
shift the voltage by half a volt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Composition, Structure

from dpa4_core.units import ANGSTROM3_TO_CM3_MOL, FARADAY
from dpa4_flows.analysis.frames import u_state
from dpa4_flows.analysis.host_matching import HostMatch, in_cell_like, match_hosts
from dpa4_flows.analysis.ions import ion_charge
from dpa4_flows.analysis.oxidation import guess_oxidation_states

REDOX_LIMITS: dict[str, int] = {
    "Ti": 4,
    "V": 5,
    "Cr": 6,
    "Mn": 4,
    "Fe": 4,
    "Co": 4,
    "Ni": 4,
    "Cu": 3,
    "Nb": 5,
    "Mo": 6,
    "Ru": 6,
    "W": 6,
    "Ta": 5,
    "Ir": 6,
    "Sn": 4,
}
"""Highest oxidation state that charging can reach in a solid: optimistic, as Fe4+, Ni4+ and Co4+ rarely are
complete.

Metals outside the table are taken as redox-inactive. Oxidation of the anions is not counted."""

IN_OXIDES = {"Fe": 3, "Co": 4, "Ni": 4}
"""Oxidation state beyond which oxides of a metal give off oxygen rather than reach it, as far as they are electrodes:
Fe4+ is rare, Co and Ni beyond 4+ are unknown there."""

TOPOTACTIC_LIMIT = 0.5
"""Å; layered, spinel and olivine hosts relax by 0.1 to 0.35 Å, a tetrahedral host that turns octahedral by 0.8 Å."""

_SAME_CHARGE = 0.01  # elementary charges per atom

_SMALL_DISPLACEMENT = 0.1  # Å; no other setting of the cell would be looked for

UNRELIABLE_CHANGE_PERCENT = 10.0  # of the length or of the axial ratio (c/a) on removing the ion

MAH_PER_G = FARADAY / 3.6  # one mole of electrons per gram, mAh


class ElectrodeError(ValueError):
    """Not an insertion electrode; one sentence."""


@dataclass(frozen=True)
class ElectrodeProperties:
    """One insertion couple; fields are named as in ``ElectrodeDocument``.

    Attributes:
        working_ion: element that moves.
        discharged_formula: reduced formula with the working ion.
        charged_formula: reduced formula after its removal.
        average_voltage: V against the working-ion metal.
        capacity_grav: mAh per g of the discharged compound.
        capacity_vol: mAh per cm³ of the discharged compound.
        energy_grav: Wh per kg of the discharged compound.
        energy_vol: Wh per L of the discharged compound.
        volume_change_percent: volume change of the host on charging, % of the discharged volume.
        interlayer_change_percent: largest principal stretch of the cell on charging, signed, %: the change of
            c for a layered host that swells along c.
        volume_change_reliable: False if the cell expands by more than 10 % along one axis, or mostly expands and the
            ratio of its largest and smallest stretch (c/a) grows by more than 10 %: layers drift apart where the model
            has no dispersion to hold them. A cell that contracts can be trusted, and any with dispersion.
        host_displacement: largest displacement of a host atom on charging, Å, beyond what the change of the cell
            carries along; None if the two cells hold different numbers of host atoms.
        warnings: what to know before quoting these numbers, sentence by code.
    """

    working_ion: str
    discharged_formula: str
    charged_formula: str
    average_voltage: float
    capacity_grav: float
    capacity_vol: float
    energy_grav: float
    energy_vol: float
    volume_change_percent: float
    interlayer_change_percent: float
    volume_change_reliable: bool
    host_displacement: float | None
    warnings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RedoxBound:
    """How much charge the transition metals of a compound can give.

    Attributes:
        redox_elements: metals that can be oxidised further.
        capacity_ions: all working ions removed, mAh per g of the discharged compound.
        capacity_redox: as far as the metals reach their highest states, at most ``capacity_ions``; None if
            the oxidation states cannot be guessed.
        reason: one sentence if the compound cannot work as an electrode.
        limit: one sentence if the metals give less charge than the ions.
        unusual: one sentence if an oxide needs oxidation states beyond `IN_OXIDES` to lose all ions.
    """

    redox_elements: tuple[str, ...]
    capacity_ions: float
    capacity_redox: float | None
    reason: str | None
    limit: str | None = None
    unusual: str | None = None

    @property
    def capacity(self) -> float:
        """What leaves, mAh per g of the discharged compound; without a metal the anions are oxidised."""
        return self.capacity_ions if self.limit is None or self.capacity_redox is None else self.capacity_redox


def remove_ions(structure: Structure, working_ion: str) -> Structure:
    """Copy of a structure without any working ion, in the same cell.

    Raises:
        ElectrodeError: there is no working ion, or nothing else, or partial occupancy.
    """
    formula = structure.composition.reduced_formula
    if not structure.is_ordered:
        raise ElectrodeError(f"{formula} has partial occupancies; order the structure first")
    indices = [i for i, site in enumerate(structure) if site.specie.symbol == working_ion]
    if not indices:
        raise ElectrodeError(f"{formula} holds no {working_ion} to remove; name the ion that moves as working_ion")
    if len(indices) == len(structure):
        raise ElectrodeError(f"nothing is left of {formula} without its {working_ion}")
    host = structure.copy()
    host.remove_sites(indices)
    return host


def electrode_properties(
    discharged: Structure,
    charged: Structure,
    energy_discharged: float,
    energy_charged: float,
    energy_per_ion_metal: float,
    working_ion: str,
    *,
    dispersion: bool = False,
) -> ElectrodeProperties:
    """Properties of the couple ``discharged`` → ``charged`` + working ions.

    Args:
        discharged: relaxed structure with the working ion.
        charged: relaxed structure with fewer or no working ions; may hold another number of formula units,
            but only with the same number does the shape of the cell say something.
        energy_discharged: uncorrected total energy of the discharged cell, eV.
        energy_charged: uncorrected total energy of the charged cell, eV.
        energy_per_ion_metal: uncorrected energy of the working-ion metal, eV/atom, by the same model.
        working_ion: element symbol, one of `ION_CHARGES`.
        dispersion: whether the energies hold dispersion, so that layers which drift apart do so for a reason.

    Raises:
        ElectrodeError: unknown ion, hosts that differ, no ion removed, or an energy that is not finite.
    """
    charge = ion_charge(working_ion)
    units = host_ratio(discharged, charged, working_ion)
    n_ions = _count(discharged, working_ion) - units * _count(charged, working_ion)
    pair = f"{discharged.composition.reduced_formula} and {charged.composition.reduced_formula}"
    if n_ions <= 0:
        raise ElectrodeError(f"no {working_ion} leaves between {pair}; the discharged structure must hold more of it")
    if not all(math.isfinite(e) for e in (energy_discharged, energy_charged, energy_per_ion_metal)):
        raise ElectrodeError(f"an energy of {pair} is not a finite number")

    reaction_energy = energy_discharged - units * energy_charged - n_ions * energy_per_ion_metal
    voltage = -reaction_energy / (n_ions * charge)
    capacity_grav = n_ions * charge * MAH_PER_G / float(discharged.composition.weight)
    capacity_vol = n_ions * charge * MAH_PER_G / (float(discharged.volume) * ANGSTROM3_TO_CM3_MOL)
    volume_change = 100.0 * (units * float(charged.volume) / float(discharged.volume) - 1.0)
    match = _match(discharged, charged, working_ion)
    stretches = _stretches(discharged, charged, units, match)
    largest = 100.0 * (max(stretches, key=lambda stretch: abs(stretch - 1.0)) - 1.0)
    distortion = 100.0 * (stretches[0] / stretches[-1] - 1.0)
    expansion = 100.0 * (stretches[0] - 1.0)
    drifts_apart = expansion > UNRELIABLE_CHANGE_PERCENT or (largest > 0 and distortion > UNRELIABLE_CHANGE_PERCENT)
    reliable = dispersion or not bool(drifts_apart)
    displacement = None if match is None else match.displacement
    return ElectrodeProperties(
        working_ion=working_ion,
        discharged_formula=discharged.composition.reduced_formula,
        charged_formula=charged.composition.reduced_formula,
        average_voltage=voltage,
        capacity_grav=capacity_grav,
        capacity_vol=capacity_vol,
        energy_grav=voltage * capacity_grav,
        energy_vol=voltage * capacity_vol,
        volume_change_percent=volume_change,
        interlayer_change_percent=float(largest),
        volume_change_reliable=reliable,
        host_displacement=displacement,
        warnings=_warnings(discharged, charged, voltage, reliable, expansion, distortion)
        | _framework_warning(displacement),
    )


def host_displacement(discharged: Structure, charged: Structure, working_ion: str) -> float | None:
    """Largest displacement of a host atom between two cells, Å, the change of the cell and a rigid shift taken off.

    An insertion reaction is topotactic: the host keeps its framework. Layers that swell or glide move with the
    cell and do not count; atoms that change their neighbours do. Order, oxidation states and the setting of the
    charged cell do not matter; one may be a supercell of the other. None if the hosts differ, or no supercell fits.
    """
    match = _match(discharged, charged, working_ion)
    if match is None:  # one of them may be a supercell
        try:
            units = host_ratio(discharged, charged, working_ion)
        except ElectrodeError:
            return None
        small, large = (discharged, charged) if units < 1 else (charged, discharged)
        whole = in_cell_like(large, small, round(max(units, 1 / units)))
        match = None if whole is None else _match(whole, large, working_ion)
    return None if match is None else match.displacement


def _match(discharged: Structure, charged: Structure, working_ion: str) -> HostMatch | None:
    hosts = [
        Structure.from_sites([site for site in structure if site.specie.symbol != working_ion])
        for structure in (discharged, charged)
    ]
    return match_hosts(hosts[0], hosts[1], good_enough=_SMALL_DISPLACEMENT)


def redox_bound(composition: Composition, working_ion: str) -> RedoxBound:
    """Redox-active metals of a discharged compound and the capacity they allow.

    The metals start from the most probable oxidation states of the composition and end at REDOX_LIMITS.
    """
    amounts = composition.get_el_amt_dict()
    formula = composition.reduced_formula
    n_ions = amounts.get(working_ion, 0.0)
    per_electron = MAH_PER_G / float(composition.weight)
    capacity_ions = n_ions * ion_charge(working_ion) * per_electron
    metals = tuple(symbol for symbol in amounts if symbol in REDOX_LIMITS and symbol != working_ion)
    if not n_ions:
        return RedoxBound(metals, 0.0, 0.0, f"{formula} holds no {working_ion}")
    if not metals:
        return RedoxBound((), capacity_ions, 0.0, f"{formula} has no redox-active transition metal")
    states = guess_oxidation_states(composition) or guess_oxidation_states(composition, rare_states=True)
    if not states:
        return RedoxBound(metals, capacity_ions, None, None)
    electrons = {symbol: amounts[symbol] * max(0.0, REDOX_LIMITS[symbol] - states[symbol]) for symbol in metals}
    active = tuple(symbol for symbol in metals if electrons[symbol] > 0)
    unusual = _unusual_states(composition, working_ion, states)
    capacity = min(capacity_ions, sum(electrons.values()) * per_electron)
    if not active:
        reason = f"{', '.join(metals)} in {formula} cannot be oxidised further"
        return RedoxBound(active, capacity_ions, capacity, reason, unusual=unusual)
    if capacity >= capacity_ions - 0.5:
        return RedoxBound(active, capacity_ions, capacity, None, unusual=unusual)
    limit = (
        f"the highest oxidation states of {', '.join(active)} allow {capacity:.0f} of the {capacity_ions:.0f} mAh/g "
        f"that removing all {working_ion} would give"
    )
    return RedoxBound(active, capacity_ions, capacity, None, limit, unusual)


def _unusual_states(composition: Composition, working_ion: str, states: Mapping[str, float]) -> str | None:
    """What Fe, Co and Ni of an oxide would have to become when all ions leave, where the other metals are at their
    highest and that does not suffice.
    """
    amounts = composition.get_el_amt_dict()
    highest = {s: IN_OXIDES.get(s, REDOX_LIMITS[s]) for s in amounts if s in REDOX_LIMITS and s != working_ion}
    rare = [symbol for symbol in highest if symbol in IN_OXIDES]
    if "O" not in amounts or not rare:
        return None
    spare = sum(amounts[symbol] * (limit - states[symbol]) for symbol, limit in highest.items())
    beyond = amounts[working_ion] * ion_charge(working_ion) - spare
    if beyond <= _SAME_CHARGE * sum(amounts[symbol] for symbol in rare):
        return None
    means = {symbol: highest[symbol] + beyond / sum(amounts[s] for s in rare) for symbol in rare}
    told = " and ".join(f"{symbol} to +{state:.2g}" for symbol, state in means.items())
    return (
        f"without {working_ion}, {composition.reduced_formula} brings {told}, beyond what is usual in oxides "
        f"({', '.join(f'{symbol}{highest[symbol]}+' for symbol in rare)}): expect oxygen to react in its place"
    )


def _count(structure: Structure, symbol: str) -> float:
    return float(structure.composition.get_el_amt_dict().get(symbol, 0.0))


def host_ratio(discharged: Structure, charged: Structure, working_ion: str) -> float:
    """Formula units of the discharged cell per formula unit of the charged cell, by their common host."""
    hosts = [
        {symbol: n for symbol, n in s.composition.get_el_amt_dict().items() if symbol != working_ion}
        for s in (discharged, charged)
    ]
    pair = f"{discharged.composition.reduced_formula} and {charged.composition.reduced_formula}"
    if not hosts[0] or set(hosts[0]) != set(hosts[1]):
        raise ElectrodeError(f"{pair} do not share a host without {working_ion}")
    ratios = [hosts[0][symbol] / hosts[1][symbol] for symbol in hosts[0]]
    if max(ratios) - min(ratios) > 1e-8 * max(ratios):
        raise ElectrodeError(f"{pair} do not share a host without {working_ion}")
    return ratios[0]


def _stretches(discharged: Structure, charged: Structure, units: float, match: HostMatch | None) -> NDArray[np.float64]:
    """Principal stretches of the cell on charging, largest first.

    They are the singular values of the deformation that maps one cell on the other, so that a layered host
    shows its swelling in a rhombohedral primitive cell as well. Cells with different numbers of formula units
    have no common setting; they get the isotropic stretch.
    """
    if abs(units - 1.0) > 1e-8:
        return np.full(3, (units * float(charged.volume) / float(discharged.volume)) ** (1 / 3))
    lattice = charged.lattice if match is None else match.lattice
    deformation = np.linalg.solve(discharged.lattice.matrix, lattice.matrix)
    return np.asarray(np.linalg.svd(deformation, compute_uv=False), dtype=np.float64)


def _framework_warning(displacement: float | None) -> dict[str, str]:
    if displacement is None or displacement <= TOPOTACTIC_LIMIT:
        return {}
    return {
        "not_topotactic": f"host atoms move by up to {displacement:.2f} Å on charging, more than {TOPOTACTIC_LIMIT} Å; "
        "the framework rearranges, so the ion may not come back"
    }


def _warnings(
    discharged: Structure,
    charged: Structure,
    voltage: float,
    reliable: bool,
    expansion: float,
    distortion: float,
) -> dict[str, str]:
    charged_formula = charged.composition.reduced_formula
    warnings = {}
    if not reliable:
        warnings["unreliable_vdw"] = (
            f"charging to {charged_formula} stretches the cell by {expansion:+.1f} % along one axis (axial ratio "
            f"{distortion:+.1f} %); the model has no dispersion, the volume change is not meaningful"
        )
    if voltage <= 0:
        warnings["no_insertion"] = f"the voltage is {voltage:.2f} V: {charged_formula} does not take up the ion"
    states = [u_state(s.composition) for s in (discharged, charged)]
    if states[0] != states[1] or "boundary" in states:
        warnings["across_u_seam"] = (
            f"{discharged.composition.reduced_formula} and {charged_formula} lie on different sides of the "
            "PBE/PBE+U seam; the voltage is not reliable"
        )
    return warnings
