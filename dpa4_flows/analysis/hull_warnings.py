"""When a distance to a hull should not be believed: what the level of theory and the corrections leave out."""

from __future__ import annotations

from collections.abc import Collection

from dpa4_flows.analysis.frames import U_VALUES, applies_u, is_known_pbe, is_pbe
from dpa4_flows.analysis.levels import COBALT, needs_cobalt_decision

_U_ANIONS = frozenset({"O", "F"})
_OPEN_SHELL = frozenset({"V", "Cr", "Mn", "Fe", "Co", "Ni"})


def without_dispersion(scheme: str) -> str:
    """What to know of a published scheme where energies have dispersion."""
    return (
        f"{scheme} was fitted to energies without dispersion, which binds compounds more than their elements; fit "
        "corrections to this model (`dpa4 validate thermo --refit FILE`) before formation energies are quoted"
    )


def scheme_warnings(
    level_of_theory: str, fitting: str, scheme: str, shifted: Collection[str] = (), dispersion: str = ""
) -> list[str]:
    """What to know of a correction scheme before quoting any number.

    Args:
        level_of_theory: of the model.
        fitting: scheme that fits the model, "" if unknown.
        scheme: scheme in use.
        shifted: elements whose energy zero fine-tuning shifted.
        dispersion: name of that in the energies, "" for none.
    """
    if shifted and scheme == "none" and is_pbe(level_of_theory):
        return [
            f"energies are uncorrected: fine-tuning shifted the energy zero of {', '.join(shifted)}, and no published "
            "scheme fits it. If the data are PBE or PBE+U, fit corrections to this model with CorrectionRefitMaker or "
            "`dpa4 validate thermo --refit FILE`"
        ]
    if dispersion and scheme != "none" and not scheme.startswith("refit:"):
        return [without_dispersion(scheme)]
    if fitting and scheme != fitting and not scheme.startswith("refit:"):
        return [
            f"corrections {scheme} were asked for, {fitting} was fitted to the calculations that this model learned "
            "from; docs/levels-of-theory.md says when to prefer which"
        ]
    if scheme == "none" and is_known_pbe(level_of_theory):
        return [
            "energies are uncorrected: PBE misplaces oxides, halides and nitrides against their elements by up to "
            "1 eV/atom, so that only decompositions into similar compounds can be trusted"
        ]
    return []


def system_warnings(elements: Collection[str], level_of_theory: str, scheme: str) -> list[str]:
    """What to know of distances in one chemical system.

    Args:
        elements: symbols.
        level_of_theory: of the model.
        scheme: correction scheme in use.
    """
    symbols = set(elements)
    name = "-".join(sorted(symbols))
    metals, anions = sorted(symbols & set(U_VALUES)), sorted(symbols & _U_ANIONS)
    if not is_known_pbe(level_of_theory) or not anions:
        return []
    found = []
    if metals and scheme == "none" and applies_u(level_of_theory):
        found.append(
            f"{name}: {', '.join(metals)} with {', '.join(anions)} has +U, metals have none; uncorrected distances are "
            "wrong by several 0.1 eV/atom"
        )
    if applies_u(level_of_theory) and needs_cobalt_decision(symbols, scheme):
        found.append(f"{name}: {COBALT}")
    if magnetic := sorted(symbols & _OPEN_SHELL):
        found.append(f"{name}: the model sees no magnetic order and no spin states of {', '.join(magnetic)}")
    return found


def materials_project_mismatch(model: str, level_of_theory: str, corrections: str) -> str | None:
    """Why energies of a model may not stand beside those of the Materials Project; None if they may.

    Only a checkpoint trained on the Materials Project's own calculations is on its scale: its correction scheme is
    MP2020. Other potentials, pseudopotentials or functionals differ by up to 0.35 eV/atom for elements alone.
    """
    if corrections == "MP2020" and is_pbe(level_of_theory):
        return None
    return (
        f"the energies of {model} ({level_of_theory}) are not on the scale of the Materials Project, which only "
        "checkpoints trained on MPtrj with MP2020 corrections share: use --against cache, where the same model "
        "relaxes the competing phases"
    )
