"""The isotopes of hydrogen that have symbols of their own: elements to a potential, masses to a phonon."""

from __future__ import annotations

ISOTOPE_MASSES = {"D": 2.014101777844, "T": 3.01604928132}
"""u, of the neutral atoms: M. Wang et al., Chinese Physics C 45, 030003 (2021), the AME2020 evaluation."""
