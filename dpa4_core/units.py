"""Units and sign conventions, written once.

Inside the package everything is in eV, Å, eV/Å and eV/Å³; rows of ``cell`` are lattice vectors; stress is
``-virial / volume`` and positive under tension (the convention of ASE). A value in other units carries the unit in
its name, and the conversion happens at the border with the constants below (CODATA 2018).
"""

from __future__ import annotations

EV_PER_ANGSTROM3_TO_GPA = 160.2176634
"""1 eV/Å³ in GPa; exact since 2019 (ASE, with CODATA 2014 by default, has 160.21766208)."""

EV_PER_ANGSTROM3_TO_KBAR = 1602.176634
"""1 eV/Å³ in kbar, the unit of VASP and of atomate2's force-field documents (which also flip the sign)."""

KJ_PER_MOL_TO_EV = 1 / 96.48533212331
"""1 kJ/mol in eV per particle; exact since 2019, rounded here."""

COULOMB_EV_ANGSTROM = 14.3996
"""e²/(4πε₀) in eV Å, to the digits that the ZBL term of the published checkpoints was trained with."""

BOLTZMANN_EV_K = 8.617333262e-5
"""Boltzmann's constant in eV/K."""

FARADAY = 96485.33212
"""Charge of a mole of electrons in C/mol: 1 eV per particle in J/mol, too."""

ANGSTROM3_TO_CM3_MOL = 0.602214076
"""1 Å³ per formula unit in cm³/mol."""

BOHR_ANGSTROM = 0.5291772109
"""Bohr radius in Å."""

HARTREE_EV = 27.211386245988
"""Hartree in eV."""
