"""Every code of the battery funnel, declared once: its words, the values that it voids, whether it bars from headlines.

Verdicts make their reasons here (`because`), the ranking leaves out what they void, and the report takes badges and
legends from the same table.
"""

from __future__ import annotations

from dpa4_flows.reasons import Reason, ReasonKind

_STORED_CHARGE = ("capacity_grav", "capacity_vol", "energy_grav", "energy_vol")
_VOLTAGE = ("average_voltage", "energy_grav", "energy_vol")
_VOLUME = ("volume_change_percent", "interlayer_change_percent")
_HULL = ("energy_above_hull", "formation_energy_per_atom")
_CHARGED_HULL = ("energy_above_hull_charged",)

BATTERY_REASONS: dict[str, ReasonKind] = {
    # rejected by a criterion, or not computable
    "not_sane": ReasonKind("not computable", "the structure cannot or should not be computed", decides=True),
    "no_redox_metal": ReasonKind("no redox metal", "no transition metal can be oxidised", decides=True),
    "duplicate": ReasonKind("duplicate", "another candidate stands for it", decides=True),
    "nothing_left": ReasonKind("no host", "nothing is left without the working ion", decides=True),
    "not_computed": ReasonKind("not computed", "a calculation failed", decides=True),
    "not_converged": ReasonKind("not converged", "a relaxation did not converge", decides=True),
    "no_hull_distance": ReasonKind("no distance", "no distance to the hull", decides=True),
    "no_voltage": ReasonKind("no voltage", "no voltage", decides=True),
    "above_limit": ReasonKind("above the hull", "too far above the hull", decides=True),
    "voltage_too_low": ReasonKind("low voltage", "the voltage is below the limit", decides=True),
    "voltage_too_high": ReasonKind("high voltage", "the voltage is above the limit", decides=True),
    "capacity_too_low": ReasonKind("low capacity", "the capacity is below the limit", decides=True),
    # flags
    "input_doubtful": ReasonKind("input doubtful", "something in its file is doubtful"),
    "oxidation_limit": ReasonKind(
        "capacity limited",
        "the highest oxidation states of its metals allow less than full removal of the ion",
        voids=_STORED_CHARGE,
    ),
    "input_far_off": ReasonKind("input cell far off", "the volume changed much on relaxation: the input was guessed"),
    "saddle": ReasonKind(
        "not a minimum",
        "the relaxed structure is a saddle point: its energy is too high",
        voids=(*_HULL, *_VOLTAGE, *_VOLUME, *_CHARGED_HULL),
        disqualifies=True,
    ),
    "saddle_charged": ReasonKind(
        "charged: not a minimum",
        "the charged host is a saddle point: its energy is too high",
        voids=(*_VOLTAGE, *_VOLUME, *_CHARGED_HULL),
        disqualifies=True,
    ),
    "corrections_doubtful": ReasonKind("corrections doubtful", "how its energy is to be corrected is doubtful"),
    "phases_missing": ReasonKind(
        "known phases missing", "known phases of its system have no energy: its distance is a lower bound"
    ),
    "element_missing": ReasonKind(
        "element missing",
        "an element of its system has no reference: its stability is not known",
        voids=_HULL,
        disqualifies=True,
    ),
    "no_known_competitor": ReasonKind(
        "no known competitor",
        "no known compound competes: its stability is not known",
        voids=("energy_above_hull",),
        disqualifies=True,
    ),
    "far_below_competitors": ReasonKind(
        "competitors unknown",
        "far below all competing phases: its competitors are not known, nor is its stability",
        voids=("energy_above_hull",),
        disqualifies=True,
    ),
    "not_recorded": ReasonKind(
        "competitors unknown",
        "what competed was not recorded: its stability is not known",
        voids=("energy_above_hull",),
        disqualifies=True,
    ),
    "below_competitors": ReasonKind("below all phases", "below all competing phases: its stability is an upper bound"),
    "below_competitors_charged": ReasonKind(
        "charged: below all phases", "the charged host lies below all competing phases: an upper bound of its stability"
    ),
    "charged_far_from_phases": ReasonKind(
        "charged: no compound near", "no compound near the composition of the charged host competes"
    ),
    "charged_hull_unknown": ReasonKind(
        "charged hull unknown", "the stability of the charged host is not known", voids=_CHARGED_HULL
    ),
    "unreliable_vdw": ReasonKind(
        "host swells",
        "no dispersion in the model: the host swells, volume change and charged hull distance not meaningful",
        voids=(*_VOLUME, *_CHARGED_HULL),
    ),
    "not_topotactic": ReasonKind(
        "not topotactic",
        "not topotactic: the host rearranges on charging, its charge may not come back",
        voids=_STORED_CHARGE,
        disqualifies=True,
    ),
    "no_insertion": ReasonKind("takes up no ion", "the host does not take up the ion", disqualifies=True),
    "across_u_seam": ReasonKind(
        "across PBE and PBE+U",
        "charged and discharged form lie on different sides of the PBE/PBE+U seam",
        voids=_VOLTAGE,
        disqualifies=True,
    ),
    "large_volume_change": ReasonKind("large volume change", "the volume change on charging exceeds the limit"),
}


def because(code: str, sentence: str) -> Reason:
    """The reason of one candidate, with what its code declares.

    Raises:
        KeyError: the code is not declared.
    """
    return BATTERY_REASONS[code].reason(code, sentence)
