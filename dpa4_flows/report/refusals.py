"""What was refused or is doubtful on surfaces: which material, facet and adsorbate, code, sentence and remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dpa4_flows.analysis.anomalies import NO_ENERGY
from dpa4_flows.analysis.frames import SEAM
from dpa4_flows.documents.activity import ActivityDocument
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import Provenance
from dpa4_flows.documents.surfaces import AdsorptionDocument
from dpa4_flows.plots.figure import Column, TableBlock, badge
from dpa4_flows.plots.words import first_of, formula_text, signed

_SHOWN, _NAMED = 500, 50  # lines of the table, and materials in one
_TOO_LARGE, _BY_DESIGN = "too_many_atoms", "breaks_more_bonds"
"""Codes of terminations that the settings leave out: those too large, and others, which are counted and not listed."""

_NO_NUMBER = (SEAM, "no_intact_site", "adsorbate_missing", "slab_failed", "no_shape", "reference_missing")
"""Codes of flags without a number behind them."""
_OF_SLABS = ("slab_failed", "slab_not_converged", "clean_slab_changed", "no_intact_site")
_ELSEWHERE = ("facets_missing", SEAM, "plus_u_surface", *_OF_SLABS)
"""Codes that an activity has from its sites and from the shape, whose own tables tell them."""

_OTHER_MODEL = 'a model without +U: [reroute] model = "NAME" in a campaign, --model NAME elsewhere'
_STEPS = "raise max_steps"
REMEDIES: Mapping[str, str] = {
    SEAM: _OTHER_MODEL,
    "energy_jump": _OTHER_MODEL,
    "implausible_energy": _OTHER_MODEL,
    "plus_u_surface": "compare one site with a calculation",
    "polar": "none: such a facet reconstructs in a larger cell than is tried",
    "nonstoichiometric": "surface.chemical_potentials = hull, or numbers",
    "asymmetric": "none for a surface energy: only the sum of both faces has one",
    _TOO_LARGE: "raise max_atoms, or lower min_length or min_thickness",
    "no_slab": "name other facets, or raise max_index",
    "no_reference": "give the energies of the gases (adsorption.references)",
    "chemical_potentials": "give one for each element but one (surface.chemical_potentials)",
    "slab_not_converged": _STEPS,
    "incomplete": _STEPS,
    "no_intact_site": "look at the pictures; more orientations, or it is not stable there",
    "adsorbate_missing": "look at the pictures of its sites",
    "clean_slab_changed": "look at the slab: this facet reconstructs",
    "facets_missing": "none: the mean is over the other facets",
    "facets_not_weighted": "adsorb on all facets of the shape",
    "no_solvent": "give activity.water or activity.solvation, the same for all materials",
    "strained_crystal": "relax the crystal first",
    "rerouted": "compare with materials of the same level alone",
    "rerouted_beside": "compare with numbers of the same level alone",
    "not_rerouted": "see the sentence; another model in [reroute]",
    "reference_missing": "look at platinum, or give reaction.reference",
    "hydrogen_evolves_first": "none: the catalyst makes hydrogen",
    "hydrogen_covers_surface": "none: hydrogen is there first",
    "poisoned_by_co": "purer gas, or another limit (activity.poison_limits)",
    "poisoned_by_oh": "none at this potential, or another limit (activity.poison_limits)",
    "imaginary_modes": "lower adsorption.fmax to 0.02",
    "no_chemical_potentials": "give numbers (surface.chemical_potentials)",
}
"""What one can do about it, by code."""


def origin_words(origin: Provenance) -> str:
    """Model and level of theory."""
    return f"{origin.model_name} ({origin.level_of_theory or 'level of theory unknown'})"


class Refusal(NamedTuple):
    """One line of the table; ``refused`` things have no number, others have a doubtful one."""

    material: str
    facet: str
    adsorbate: str
    refused: bool
    code: str
    sentence: str
    level: str


def refusals(name: str, what: str, documents: Mapping[str, Any]) -> list[TableBlock]:
    """The table of one property; none where nothing was refused and nothing is doubtful.

    Args:
        name: of the property.
        what: has no number, in words.
        documents: by the name of their structure.
    """
    told: list[Refusal] = []
    left_out = 0
    for one, document in documents.items():
        told += _of(one, document)
        left_out += sum(entry.n_terminations for entry in _skipped(document) if entry.code == _BY_DESIGN)
    found = _together(told)
    if not found:
        return []
    found.sort(key=lambda refusal: not refusal.refused)  # stable: by material within each kind
    named = any(isinstance(one, AdsorptionDocument | ActivityDocument) for one in documents.values())
    heads = ["Material", "Facet", *(["Adsorbate"] if named else []), "Verdict", "Why", "Remedy"]
    theories = list(dict.fromkeys(one.level for one in found))
    several = len(theories) > 1
    rows = [
        [
            one.material,
            one.facet.replace("-", "\N{NON-BREAKING HYPHEN}"),
            *([one.adsorbate] if named else []),
            badge(one.code.replace("_", " "), good=False) if one.refused else one.code.replace("_", " "),
            one.sentence,
            REMEDIES.get(one.code, "–"),
            *([one.level] if several else []),
        ]
        for one in found[:_SHOWN]
    ]
    n_refused = sum(one.refused for one in found)
    caption = f"{n_refused} lines without {what} (red), {len(found) - n_refused} to be read with care."
    if several:
        heads.append("Model, level of theory")
    else:
        caption += f" By {theories[0]}."
    notes = [first_of(len(found), _SHOWN)]
    notes += [f"{left_out} terminations that break more bonds are left out (max_terminations)." if left_out else ""]
    title = f"Refused or doubtful: {what}"
    return [TableBlock(f"refused-{name}", title, caption, [*map(Column, heads)], rows, " ".join(filter(None, notes)))]


def _together(found: Iterable[Refusal]) -> list[Refusal]:
    """One line for what is the same of several materials."""
    alike: dict[Refusal, list[str]] = {}
    for one in found:
        alike.setdefault(one._replace(material=""), []).append(one.material)
    return [one._replace(material=_listed(materials)) for one, materials in alike.items()]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return "; ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _of(name: str, document: Any) -> Iterator[Refusal]:
    level = origin_words(document.provenance)
    told: set[tuple[str, str]] = set()

    def said(refused: bool, reason: Reason, facet: str = "all", adsorbate: str = "all") -> Refusal:
        told.add((reason.code, reason.sentence))
        formula = formula_text(document.formula)
        material = formula if document.formula == name else f"{formula}, {name}"
        return Refusal(material, facet, adsorbate, refused, reason.code, reason.sentence, level)

    if document.error is not None:
        refused = getattr(document, "refused", {})
        for adsorbate, reason in refused.items():
            yield said(True, reason, adsorbate=adsorbate)
        if not refused:
            yield said(True, Reason(code=document.error_code or "not_computed", sentence=document.error))
        return
    for adsorbate, reason in getattr(document, "refused", {}).items():
        yield said(True, reason, adsorbate=adsorbate)
    for entry in _skipped(document):
        if entry.code != _BY_DESIGN:
            refused = entry.whole_facet or entry.code == _TOO_LARGE  # else the facet has other terminations
            yield said(refused, Reason(code=entry.code, sentence=entry.reason), f"({entry.facet})")
    for facet in getattr(document, "facets", ()):
        for reason in facet.reasons:
            yield said(reason.code in _NO_NUMBER, reason, f"({facet.name})", "–")
    if isinstance(document, AdsorptionDocument):
        yield from _of_sites(document, said)
    elsewhere: tuple[str, ...] = ()
    if isinstance(document, ActivityDocument):
        yield from _of_the_other_model(document, said)
        elsewhere = _ELSEWHERE
    for reason in document.warnings:
        if (reason.code, reason.sentence) not in told and reason.code not in elsewhere:
            yield said(reason.code in _NO_NUMBER, reason, adsorbate="–")


def _of_sites(document: AdsorptionDocument, said: Any) -> Iterator[Refusal]:
    """Sites without an energy, each code once for each adsorbate on each termination."""
    for facet in document.facets:
        starts = Counter(site.adsorbate for site in facet.sites)
        found = {(s.adsorbate, r.code): r for s in facet.sites for r in s.reasons if r.code in NO_ENERGY}
        numbers = Counter((s.adsorbate, code) for s in facet.sites for code in set(s.codes) if code in NO_ENERGY)
        for (adsorbate, code), reason in found.items():
            words = f"{numbers[adsorbate, code]} of {starts[adsorbate]} starts: {reason.sentence}"
            yield said(True, Reason(code=code, sentence=words), f"({facet.name})", adsorbate)


def _of_the_other_model(document: ActivityDocument, said: Any) -> Iterator[Refusal]:
    """Adsorbates beside those of the reaction that were computed elsewhere, each with its number."""
    for facet in document.rerouted:
        for name, energy in facet.free_energies.items():
            words = f"ΔG({name}) {signed(energy)} eV, of this level of theory alone: it meets no other number"
            reason = Reason(code="rerouted_beside", sentence=words)
            yield said(False, reason, f"({facet.name})", name)._replace(level=f"[reroute] ({document.rerouted_level})")


def _skipped(document: Any) -> Any:
    return getattr(document, "skipped", ())
