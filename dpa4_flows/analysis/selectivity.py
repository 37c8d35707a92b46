"""What keeps a surface from its reaction: molecules that block it, and hydrogen that is faster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dpa4_flows.analysis.activity import activity
from dpa4_flows.analysis.reactions import REACTIONS, Reaction
from dpa4_flows.documents.reasons import Reason

POISONS: Mapping[str, float] = {"CO": -0.40, "OH": 0.0}
"""eV, free energy at the limiting potential below which an adsorbate covers a surface by itself. CO: from a share of
2 · 10⁻⁷ in gas of 1 bar, the largest that hydrogen for fuel cells may hold (ISO 14687:2019), kT ln(2 · 10⁻⁷) at 298 K.
OH: from water (surface Pourbaix diagrams, H. A. Hansen, J. Rossmeisl, J. K. Nørskov, Phys. Chem. Chem. Phys. 10, 3722
(2008))."""
_GIVEN_OFF = {"OH": 1}
"""Electrons on the way from water."""


def poisoning(
    reaction: Reaction, free_energies: Mapping[str, float], potential: float, limits: Mapping[str, float], where: str
) -> Iterator[Reason]:
    """What blocks the surface at the limiting potential of a reduction beside the adsorbates of the reaction itself.

    Args:
        reaction: which.
        free_energies: eV, at 0 V; of adsorbates beside those of the reaction, too.
        potential: at which the reaction goes, V.
        limits: eV, by adsorbate.
        where: words.
    """
    for name, limit in limits.items():
        if reaction.oxidation or name in reaction.adsorbates or name not in free_energies:
            continue
        energy = free_energies[name] - _GIVEN_OFF.get(name, 0) * potential
        if energy < limit:
            words = f"{name} {where} lies at {energy:+.2f} eV at {potential:+.2f} V, below {limit:+.2f} eV: it covers"
            who = name.lower() if name in POISONS else "other"
            yield Reason(code=f"poisoned_by_{who}", sentence=f"{words} the surface")


def beside_hydrogen(
    reaction: Reaction, free_energies: Mapping[str, float], potential: float
) -> tuple[float | None, tuple[str, str] | None]:
    """How far hydrogen evolution lies behind a reaction.

    Returns:
        Limiting potential of the reaction less that of hydrogen evolution, V, above 0 where the reaction comes first;
        None without hydrogen, or if it is not asked about. And a code with the rest of a sentence, or None:
        ``hydrogen_evolves_first``, or ``hydrogen_covers_surface``, where hydrogen comes before the limiting step, but
        does not leave.
    """
    if "H" not in reaction.beside or "H" not in free_energies:
        return None, None
    away = potential - activity(REACTIONS["HER"], free_energies).limiting_potential
    hydrogen = f"ΔG(H) is {free_energies['H']:+.2f} eV, the limiting step costs {-potential:.2f} eV"
    if away < 0:
        return away, ("hydrogen_evolves_first", f"hydrogen evolves at {potential - away:+.2f} V already: {hydrogen}")
    if free_energies["H"] < -potential:
        return away, ("hydrogen_covers_surface", f"hydrogen covers the surface before: {hydrogen}")
    return away, None
