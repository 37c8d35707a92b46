"""What is known of a value by its name: label, digits, note, and the scale on which it counts in a score.

Values that are not listed here are shown all the same, under their own name with four significant digits.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """How one value is shown.

    Attributes:
        label: name in tables and figures.
        digits: decimals; -1 for four significant digits.
        priority: place among the columns, the smallest first.
        note: what to know before quoting the number; stands beside it.
        short: label where there is little room.
        scale: ends of its scale in a score where the campaign file names none; of the magnitude if 0 is best. Fixed, so
            that a score does not depend on who else is in the campaign.
    """

    label: str
    digits: int
    priority: int
    note: str = ""
    short: str = ""
    scale: tuple[float, float] | None = None


QUANTITIES: dict[str, Quantity] = {
    "average_voltage": Quantity(
        "Voltage",
        2,
        10,
        "average over full removal of the ion, 0 K; ±0.25 V against PBE+U, ±0.3 V against experiment",
        scale=(2.5, 4.5),  # V: below, a cathode gives energy away; above, electrolytes oxidise
    ),
    "capacity_grav": Quantity(
        "Capacity",
        0,
        11,
        "theoretical, all working ions removed, per discharged mass",
        scale=(100.0, 300.0),  # mAh/g: 148 LiMn2O4, 170 LiFePO4, 274 LiCoO2
    ),
    "energy_grav": Quantity(
        "Specific energy",
        0,
        12,
        "active material only; a cell reaches roughly half of it",
        short="energy",
        scale=(300.0, 1200.0),  # Wh/kg: 560 LiMn2O4, 585 LiFePO4, 1,000 LiCoO2, 1,110 LiNiO2
    ),
    "energy_above_hull": Quantity(
        "E above hull",
        3,
        13,
        "0 K, no entropy; a lower bound: a competing phase that is missing can only raise it",
        short="E hull",
        scale=(0.0, 0.05),  # eV/atom: 90 % of the known metastable compounds lie within 0.067
    ),
    "energy_above_hull_charged": Quantity(
        "E above hull, charged",
        3,
        14,
        "host without the working ion, 0 K; high values mean oxygen release or collapse",
        short="E hull ch.",
        scale=(0.0, 0.2),  # eV/atom: beyond, oxygen leaves while charging
    ),
    "volume_change_percent": Quantity(
        "Volume change",
        1,
        15,
        "relative to the discharged volume; no dispersion in the model: layered hosts come apart",
        short="ΔV",
        scale=(0.0, 10.0),  # %: particles crack beyond about 10
    ),
    "capacity_vol": Quantity(
        "Vol. capacity",
        0,
        16,
        "theoretical, per discharged volume",
        short="capacity",
        scale=(400.0, 1400.0),  # mAh/cm³: 606 LiFePO4, 1,390 LiCoO2
    ),
    "energy_vol": Quantity(
        "Energy density",
        0,
        17,
        "active material only, per discharged volume",
        short="energy",
        scale=(1000.0, 5500.0),  # Wh/L: 2,080 LiFePO4, 5,090 LiCoO2
    ),
    "formation_energy_per_atom": Quantity(
        "Formation energy",
        3,
        18,
        "from the elements, corrected, 0 K; 0.05-0.1 eV/atom against experiment",
        short="E form",
        scale=(-3.0, 0.0),  # eV/atom: phosphates reach −2.6
    ),
    "n_competing": Quantity(
        "Competing phases", 0, 19, "phases of the chemical system that made the hull", short="phases"
    ),
    "interlayer_change_percent": Quantity(
        "Largest stretch",
        1,
        30,
        "largest principal stretch of the cell on charging, signed; in a layered host the change of the interlayer "
        "distance",
    ),
    "distance_to_competing": Quantity(
        "Distance to competing phases", 3, 31, "signed: negative means below all known phases"
    ),
    "distance_to_competing_charged": Quantity(
        "Distance to competing phases, charged", 3, 32, "signed: negative means below all known phases"
    ),
    "energy_per_atom": Quantity("Energy", 4, 40, "uncorrected model energy"),
    "fmax": Quantity("Largest force", 3, 41),
    "n_steps": Quantity("Optimiser steps", 0, 42),
    "decomposition": Quantity("Decomposes into", 0, 43),
    "energy_above_representative": Quantity("Above the one that stands for it", 4, 44),
}


def quantity(name: str) -> Quantity:
    """Label and digits of a value; a plain guess for names that nobody described."""
    return QUANTITIES.get(name, Quantity(name.replace("_", " ").capitalize(), -1, 100))
