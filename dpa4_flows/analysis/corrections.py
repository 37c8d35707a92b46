"""Energy corrections that make oxides, halides and metals of one model comparable with each other.

PBE misplaces anions with respect to their elements (O2 above all), and +U puts a metal in its oxide on
another energy scale than in its element; raw formation energies of such oxides are wrong by more than
1 eV/atom. The published schemes add one number per atom of an anion and of a U metal (A. Wang et al., Sci.
Rep. 11, 15496 (2021)):

    MP2020  fitted to PBE_52 potentials, the scale of the Materials Project
    OMat24  the same form refitted to OMat24 (PBE_54), ``data/corrections/OMat24.yaml``
    refit   the same form refitted to one model, see ``schemes`` and ``correction_fit``

pymatgen's ``MaterialsProject2020Compatibility`` decides which correction an atom gets. What it needs is
supplied here: the +U settings, oxidation states (without them the second anion of an oxychloride would lose
its correction) and the kind of oxygen (oxide, peroxide, superoxide), read from the O-O bonds of the relaxed
structure.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from pymatgen.analysis.structure_analyzer import oxide_type
from pymatgen.core import Composition, Element, Structure
from pymatgen.entries.compatibility import CompatibilityError, MaterialsProject2020Compatibility
from pymatgen.entries.computed_entries import CompositionEnergyAdjustment, ComputedEntry, ComputedStructureEntry

from dpa4_core.errors import words_of
from dpa4_flows.analysis.frames import (
    check_fitted_to,
    corrected_with_u,
    hubbards,
    is_pbe,
    run_type,
    u_state,
    zero_problem,
)
from dpa4_flows.analysis.oxidation import guess_oxidation_states
from dpa4_flows.analysis.schemes import PUBLISHED, Scheme, find_scheme
from dpa4_flows.documents.schemas import EnergyFrame

SCHEMES = PUBLISHED

_GUESSED_ANIONS = (
    "Br",
    "I",
    "Se",
    "Si",
    "Sb",
    "Te",
    "H",
    "N",
    "F",
    "Cl",
)  # O and S are told by bonds instead
_KINDS_OF_OXYGEN = ("oxide", "peroxide", "superoxide", "ozonide")
_IONIC = frozenset(("F", "O", "Cl", "N", "Br", "I", "S"))  # most electronegative element of a salt
_WITHOUT_X = frozenset((2, 10, 18))  # He, Ne, Ar: no Pauling electronegativity, by which the anion rules are decided
_LAST_WITH_X = 103
_OO_BOND_CUTOFF = 1.05  # × 1.35 Å superoxide, × 1.49 Å peroxide; the value of pymatgen's scheme


@dataclass(frozen=True)
class CorrectedEntry:
    """One energy with its corrections, or the sentence that says why there is none.

    Attributes:
        entry: pymatgen entry with the energy adjustments; None if the scheme cannot be applied.
            ``parameters`` holds run_type and hubbards, ``data`` oxidation_states, oxide_type (if any oxygen),
            u_state, converged and frame (an EnergyFrame as a dictionary).
        reason: one sentence if there is no entry.
        code: the same for logic where it is known.
        warnings: sentences to show beside the number.
        corrections: each correction by name, eV per cell: {"oxide": -1.314, "Co +U": -2.151}.
    """

    entry: ComputedStructureEntry | None
    reason: str | None = None
    warnings: tuple[str, ...] = ()
    corrections: dict[str, float] = field(default_factory=dict)
    code: str | None = None


def corrected_entry(
    structure: Structure,
    energy: float,
    *,
    scheme: str,
    entry_id: str,
    model_sha256: str,
    level_of_theory: str,
    dispersion: str = "",
    converged: bool = True,
    zeros: Mapping[str, str] | None = None,
    undecided: Collection[str] = (),
) -> CorrectedEntry:
    """Entry of one relaxed structure with the corrections of ``scheme``.

    Args:
        structure: relaxed structure; O-O bonds decide between oxide, peroxide and superoxide. Not changed.
        energy: uncorrected total energy of the cell, eV.
        scheme: one of SCHEMES, ``refit:<hash>`` or the path of a refit, see `find_scheme`.
        entry_id: name of the entry in hulls and messages.
        model_sha256: identity of the model, part of the energy frame.
        level_of_theory: what the model was trained on; decides whether +U applies and whether the scheme
            fits.
        dispersion: name of that in the energy, "" for none; part of the energy frame.
        converged: whether the relaxation converged; hulls leave out what did not.
        zeros: of the model, where fine-tuning shifted them; a phase that mixes two has no entry, see `zero_problem`.
        undecided: of the model, the same.

    Raises:
        SchemeError: unknown scheme.
        FrameError: a refit to another model. Everything that depends on the structure comes back as a reason instead.
    """
    found = find_scheme(scheme)
    check_fitted_to(found.name, found.model_sha256, model_sha256)
    scheme = found.name
    reason = _why_not(structure, energy, scheme, level_of_theory)
    if reason is not None:
        return CorrectedEntry(None, reason)
    if no_zero := zero_problem(structure.composition.get_el_amt_dict(), zeros or {}, undecided):
        return CorrectedEntry(None, no_zero[1], code=no_zero[0])

    plain = Structure(structure.lattice, [Element.from_Z(s.specie.Z) for s in structure], structure.frac_coords)
    composition = plain.composition
    with_u = corrected_with_u(level_of_theory)
    frame = EnergyFrame(
        dispersion=dispersion, model_sha256=model_sha256, level_of_theory=level_of_theory, correction=scheme
    )
    states, uncertain = _oxidation_states(composition)
    entry = ComputedStructureEntry(
        plain,
        float(energy),
        parameters={
            "run_type": run_type(composition, level_of_theory),
            "hubbards": hubbards(composition) if with_u else {},
            "software": "dpa4",
        },
        data={
            "oxidation_states": states,
            "u_state": u_state(composition) if with_u else "none",
            "converged": bool(converged),
            "frame": frame.model_dump(),
        },
        entry_id=entry_id,
    )
    warnings = []
    if entry.data["u_state"] == "boundary":
        warnings.append(
            f"{composition.reduced_formula} holds little O or F on much U metal, between PBE and PBE+U: its "
            "energy is not reliable"
        )
    if Element("O") in composition and not composition.is_element:
        entry.data["oxide_type"] = oxide_type(plain, _OO_BOND_CUTOFF)
    if scheme == "none":
        return CorrectedEntry(entry, warnings=tuple(warnings))

    try:
        adjustments = _compatibility(found, with_u).get_adjustments(entry)
    except (CompatibilityError, ValueError, KeyError, IndexError) as error:
        problem = words_of(error)
        return CorrectedEntry(None, f"corrections {scheme} do not apply to {composition.reduced_formula}: {problem}")
    entry.energy_adjustments = [_without_settings(adjustment, scheme) for adjustment in adjustments]
    corrections = corrections_of(entry)
    warnings += uncertain + _anion_warnings(plain, entry.data.get("oxide_type"), states, corrections)
    return CorrectedEntry(entry, None, tuple(warnings), corrections)


def corrections_of(entry: ComputedEntry) -> dict[str, float]:
    """Corrections of an entry by short name, eV per cell."""
    return {short_name(adjustment.name): float(adjustment.value) for adjustment in entry.energy_adjustments}


def corrections_by_element(entry: ComputedEntry) -> dict[str, float]:
    """Corrections of an entry, eV per atom of the element that each is for; what is for none goes to all atoms."""
    amounts = entry.composition.get_el_amt_dict()
    found = dict.fromkeys(amounts, 0.0)
    for name, value in corrections_of(entry).items():
        symbol = "O" if name in _KINDS_OF_OXYGEN else name.removesuffix(" +U")
        given = [symbol] if symbol in amounts else list(amounts)
        share = value / sum(amounts[one] for one in given)
        found |= {one: found[one] + share for one in given}
    return found


def _why_not(structure: Structure, energy: float, scheme: str, level_of_theory: str) -> str | None:
    """Sentence if no entry can be made at all."""
    if len(structure) == 0:
        return "a structure without atoms has no energy per atom"
    numbers = {element.Z: element.symbol for element in structure.composition.elements}
    if strange := [numbers[z] for z in sorted(numbers) if z in _WITHOUT_X or z > _LAST_WITH_X]:
        return f"{strange[0]} forms no known compounds and has no place on a hull; remove it"
    formula = structure.composition.reduced_formula
    if not structure.is_ordered:
        return f"{formula} has partial occupancies; order the structure first"
    if not math.isfinite(energy):
        return f"the energy of {formula} is {energy}, not a finite number"
    if scheme != "none" and not is_pbe(level_of_theory):
        return (
            f"corrections {scheme} were fitted for PBE and PBE+U, the model gives {level_of_theory}; use the "
            "correction scheme none"
        )
    return None


@cache
def _compatibility(scheme: Scheme, with_u: bool) -> MaterialsProject2020Compatibility:
    return MaterialsProject2020Compatibility(
        compat_type="Advanced" if with_u else "GGA",
        check_potcar=False,
        config_file=str(scheme.file) if scheme.file else None,
    )


def _oxidation_states(composition: Composition) -> tuple[dict[str, float], list[str]]:
    """States for the anion rules and a warning where they are uncertain.

    Zeros stand for unknown: the scheme then corrects the most electronegative element only. A salt gets a
    second guess from rarer states, so that its further anions keep their corrections.
    """
    states = guess_oxidation_states(composition)
    symbols = list(composition.get_el_amt_dict())
    if states or len(symbols) == 1:
        return states or dict.fromkeys(symbols, 0.0), []
    formula = composition.reduced_formula
    strongest = max(symbols, key=lambda symbol: float(Element(symbol).X))
    if strongest in _IONIC:
        states = guess_oxidation_states(composition, rare_states=True)
    others = [symbol for symbol in symbols if symbol in _GUESSED_ANIONS and symbol != strongest]
    if states:
        return states, [f"the anion corrections of {formula} rest on unusual oxidation states"] if others else []
    if others and strongest in _IONIC:
        message = f"no charge-neutral oxidation states for {formula}: anion corrections go to {strongest} only"
        return dict.fromkeys(symbols, 0.0), [message]
    return dict.fromkeys(symbols, 0.0), []


def _anion_warnings(
    structure: Structure, oxygen: str | None, states: dict[str, float], corrections: dict[str, float]
) -> list[str]:
    """What a reader should know about the anion corrections that were chosen."""
    composition = structure.composition
    formula = composition.reduced_formula
    warnings = [
        f"{symbol} in {formula} has the mean oxidation state {states[symbol]:.2f}: no anion correction"
        for symbol in _GUESSED_ANIONS
        if -1 < states.get(symbol, 0.0) < 0 and symbol not in corrections
    ]
    if oxygen in _KINDS_OF_OXYGEN[1:] and any(e.is_transition_metal for e in composition.elements):
        distances = structure.lattice.get_all_distances(*[_oxygen_sites(structure)] * 2)
        shortest = float(np.min(distances + np.diag(np.full(len(distances), np.inf))))
        warnings.append(
            f"{formula} has O-O bonds of {shortest:.2f} Å and is corrected as {oxygen}; a transition-metal "
            "oxide that looks so has usually released oxygen"
        )
    return warnings


def _oxygen_sites(structure: Structure) -> np.ndarray:
    return np.array([site.frac_coords for site in structure if site.specie.symbol == "O"])


def _without_settings(adjustment: CompositionEnergyAdjustment, scheme: str) -> CompositionEnergyAdjustment:
    """The same adjustment without the file names that pymatgen stores in it."""
    return CompositionEnergyAdjustment(
        adjustment.value / adjustment.n_atoms,
        adjustment.n_atoms,
        uncertainty_per_atom=adjustment.uncertainty_per_atom,
        name=adjustment.name,
        cls={"scheme": scheme},
    )


def short_name(name: str) -> str:
    kind = name[name.index("(") + 1 : name.rindex(")")] if "(" in name and ")" in name else name
    return f"{kind} +U" if "mixing" in name else kind
