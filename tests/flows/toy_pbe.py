"""Toy potentials that claim to be trained on PBE, so that corrections apply to them."""

from __future__ import annotations

from dpa4_core.model.info import ModelInfo
from dpa4_core.testing import MorsePotential


def pbe_u() -> MorsePotential:
    potential = MorsePotential()
    potential.info = ModelInfo(level_of_theory="PBE / PBE+U", corrections="OMat24")
    return potential


def r2scan() -> MorsePotential:
    potential = MorsePotential()
    potential.info = ModelInfo(level_of_theory="r2SCAN")
    return potential


def pbe_u_again() -> MorsePotential:
    """Another model, by its name."""
    return pbe_u()


def shifted() -> MorsePotential:
    """Fine-tuned on oxides of magnesium, and on one compound of sodium and chlorine."""
    potential = MorsePotential()
    zeros = dict.fromkeys(("Mg", "O", "Na", "Cl"), "data")
    potential.info = ModelInfo(level_of_theory="PBE", corrections="none", zeros=zeros, undecided=("Na", "Cl"))
    return potential
