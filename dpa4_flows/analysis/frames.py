"""Energy frames: which energies may meet, and which cells a PBE+U training set computed with +U.

A potential inherits the rules of its training set. OMat24 follows the Materials Project: every cell that
holds O or F together with V, Cr, Mn, Fe, Co, Ni, Mo or W was computed with PBE+U, every other cell with PBE.
The two differ by electronvolts per metal atom, so only corrected energies may be compared across that seam.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from pymatgen.core import Composition

from dpa4_flows.documents.schemas import EnergyFrame

UState = Literal["none", "full", "boundary"]

U_VALUES: dict[str, float] = {
    "V": 3.25,
    "Cr": 3.7,
    "Mn": 3.9,
    "Fe": 5.3,
    "Co": 3.32,
    "Ni": 6.2,
    "Mo": 4.38,
    "W": 6.2,
}
"""Hubbard U of the Materials Project for oxides and fluorides, eV (A. Jain et al., PRB 84, 045115 (2011))."""

_U_ANIONS = ("O", "F")
_FULL_ANION_FRACTION = 0.25  # of the O, F and U-metal atoms; an O adsorbed on a slab of 16 Ni has 0.06, Fe2O3 0.6
_PLUS_U = re.compile(r"(\b(?:no|not|without)\s+)?(?:\b[\w-]+\s?)?\+\s?u\b")
_NOT_PBE = ("scan", "pbesol", "b97", "b3lyp", "hse", "ccsd", "lda")


SEAM = "plus_u_seam"
"""Code of an adsorbate that would take a slab across the +U seam."""
MIXED_ZEROS, UNDECIDED_ZEROS = "mixed_energy_zeros", "undecided_energy_zeros"
"""Codes of energies that have no common zero, see `zero_problem`."""
_KEEP = "or keep the zeros (finetune.offsets = keep) if the data have the base's level of theory"


class FrameError(ValueError):
    """Energies of different frames were about to meet; one sentence."""


def u_state(composition: Composition) -> UState:
    """How the +U policy treats a cell of this composition.

    ``none``: no O/F or no U metal. ``full``: both, and O + F make up at least a quarter of the O, F and
        U-metal atoms
    (oxides, fluorides). ``boundary``: both, but little O/F on much metal (adsorbate, sub-oxide, dilute
    impurity): the model was hardly trained there and a single O atom moves the whole cell onto the +U
    surface.
    """
    amounts = composition.get_el_amt_dict()
    n_metal = sum(amounts.get(symbol, 0.0) for symbol in U_VALUES)
    n_anion = sum(amounts.get(symbol, 0.0) for symbol in _U_ANIONS)
    if not n_metal or not n_anion:
        return "none"
    return "full" if n_anion / (n_anion + n_metal) >= _FULL_ANION_FRACTION else "boundary"


def applies_u(level_of_theory: str) -> bool:
    """Whether a level of theory says that it follows the Materials Project +U policy, and not that it has no +U."""
    return any(denied is None for denied in (found[1] for found in _PLUS_U.finditer(level_of_theory.lower())))


def corrected_with_u(level_of_theory: str) -> bool:
    """Whether corrections take energies as those of the +U policy: they presuppose it where nothing is said."""
    return is_pbe(level_of_theory) and (applies_u(level_of_theory) or not is_stated(level_of_theory))


def is_pbe(level_of_theory: str) -> bool:
    """Whether a level of theory is PBE with or without +U, or not stated."""
    text = level_of_theory.lower()
    return not any(name in text for name in _NOT_PBE) and ("pbe" in text or not is_stated(text))


def is_known_pbe(level_of_theory: str) -> bool:
    """Whether the level is stated to be PBE; of a toy nothing is known."""
    return is_pbe(level_of_theory) and "pbe" in level_of_theory.lower()


def is_r2scan(level_of_theory: str) -> bool:
    """Whether a level of theory is r2SCAN."""
    return "r2scan" in level_of_theory.lower()


def seam_problem(crystal: Composition, adsorbate: Mapping[str, float], level_of_theory: str) -> tuple[str, str] | None:
    """What the +U policy means for an adsorbate on a crystal: a code and the rest of a sentence; None for nothing.

    ``plus_u_seam``: oxygen or fluorine would come onto a metal with +U that the clean slab computes without, or such a
    metal onto an oxide or fluoride; one atom moves the whole slab to the other side, by electronvolts per metal atom
    (A. Warford et al., arXiv 2601.21056).
    ``plus_u_surface``: slab and adsorbate lie on the +U side alike, which is right in itself and little tested.
    ``plus_u_unknown``: it would be one of the two if the model's data follow the policy, of which nothing is said.
    """
    brought = brought_across(crystal, adsorbate)
    metals = [symbol for symbol in crystal.get_el_amt_dict() if symbol in U_VALUES]
    if not (metals or brought) or (is_stated(level_of_theory) and not applies_u(level_of_theory)):
        return None
    others = metals or [symbol for symbol in crystal.get_el_amt_dict() if symbol in _U_ANIONS]
    if not is_stated(level_of_theory):
        if not brought and u_state(crystal) != "full":
            return None
        return "plus_u_unknown", (
            f"puts {', '.join(metals or brought)} beside oxygen or fluorine, and the model does not say whether its "
            "data treat that with +U: state its level of theory, or take a model that does"
        )
    if u_state(crystal) == "full":
        return "plus_u_surface", f"has {', '.join(metals)} with +U in the clean slab, too: check against a calculation"
    if not brought:
        return None
    words = f"brings {' and '.join(brought)} onto {', '.join(others)}, which the training data of this model treat"
    return SEAM, f"{words} with +U then and without before: take a model that was trained without +U"


def brought_across(crystal: Composition, added: Mapping[str, float]) -> list[str]:
    """Elements among those added, as atoms of each, that make oxygen or fluorine and a metal with +U meet."""
    own = crystal.get_el_amt_dict()
    come = [symbol for symbol, amount in added.items() if amount > 0]
    anions = [symbol for symbol in come if symbol in _U_ANIONS]
    if anions and any(symbol in U_VALUES for symbol in (*own, *come)):
        return anions
    return [symbol for symbol in come if symbol in U_VALUES] if any(symbol in own for symbol in _U_ANIONS) else []


def hubbards(composition: Composition) -> dict[str, float]:
    """{element: U in eV} that the policy puts on a cell of this composition; empty if none."""
    if u_state(composition) == "none":
        return {}
    return {symbol: U_VALUES[symbol] for symbol in composition.get_el_amt_dict() if symbol in U_VALUES}


def run_type(composition: Composition, level_of_theory: str) -> str:
    """Run type in the words of pymatgen: GGA or GGA+U; the level of theory itself where it is not PBE."""
    if not is_pbe(level_of_theory):
        return level_of_theory
    return "GGA+U" if corrected_with_u(level_of_theory) and hubbards(composition) else "GGA"


def zero_problem(
    elements: Iterable[str], zeros: Mapping[str, str], undecided: Collection[str]
) -> tuple[str, str] | None:
    """Why energies of phases of these elements have no common zero: a code and a sentence; None where they have.

    Args:
        elements: symbols.
        zeros: elements whose zero fine-tuning shifted, see `ModelInfo.zeros`.
        undecided: elements whose zero is not known by itself, see `ModelInfo.undecided`.
    """
    present = sorted(set(elements))
    shifted = [symbol for symbol in present if symbol in zeros]
    if len({zeros.get(symbol, "") for symbol in present}) > 1:
        first = zeros[shifted[0]]
        others = [symbol for symbol in present if zeros.get(symbol) != first]
        mine = [symbol for symbol in shifted if symbol not in others]
        return MIXED_ZEROS, (
            f"fine-tuning shifted the energy zero of {', '.join(mine)} and not that of {', '.join(others)} with it, so "
            f"that energies of {'-'.join(present)} have no common zero with other phases: take the base model, or "
            f"fine-tune on frames with all of these elements, {_KEEP}"
        )
    if unknown := [symbol for symbol in present if symbol in undecided]:
        return UNDECIDED_ZEROS, (
            f"the data that the model was trained on hold {', '.join(unknown)} in nearly fixed proportions to other "
            f"elements only, so that energies of {'-'.join(present)} have no common zero with other phases: add frames "
            f"of the elements or of more compounds, {_KEEP}"
        )
    return None


def check_same_frame(frames: Iterable[EnergyFrame | Mapping[str, Any]]) -> EnergyFrame:
    """The frame that all energies share.

    Raises:
        FrameError: there is no frame, or two of them differ; the sentence names the first difference.
    """
    common: EnergyFrame | None = None
    for item in frames:
        frame = item if isinstance(item, EnergyFrame) else EnergyFrame.model_validate(item)
        if common is None:
            common = frame
        elif frame != common:
            raise FrameError(_difference(common, frame))
    if common is None:
        raise FrameError("no energy frame was given; every energy needs its model, level of theory and correction")
    return common


def check_fitted_to(correction: str, fitted_to: str, model_sha256: str) -> None:
    """Refuse a correction scheme that was fitted to another model: its numbers hold that model's errors.

    Args:
        correction: name of the scheme, for the message.
        fitted_to: checksum of the model it was fitted to; empty for a published scheme, which fits a level of theory.
        model_sha256: checksum of the model whose energies are to be corrected.

    Raises:
        FrameError: the two differ.
    """
    if fitted_to and fitted_to != model_sha256:
        raise FrameError(
            f"corrections {correction} were fitted to model {fitted_to[:12]}… and not to {model_sha256[:12]}…: fit "
            "them to this model or take a published scheme"
        )


def _difference(one: EnergyFrame, other: EnergyFrame) -> str:
    field = next(name for name in type(one).model_fields if getattr(one, name) != getattr(other, name))
    first, second = (str(getattr(frame, field))[:24] for frame in (one, other))
    return (
        f"energies of different frames cannot be compared: {field} is {first!r} for one and {second!r} for "
        "another; compute all phases with one model and one correction scheme"
    )


def is_stated(level_of_theory: str) -> bool:
    """Whether anything is said of the level of theory."""
    return level_of_theory.strip().lower() not in ("", "unknown", "none", "toy")
