"""Ziegler–Biersack–Littmark screened nuclear repulsion, float64.

V = (e²/4πε₀) Z_i Z_j / r Σ_k a_k exp(−b_k r/a_s), a_s = 0.88534 a_Bohr/(Z_i^0.23 + Z_j^0.23)
(Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Matter, 1985).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dpa4_core.units import BOHR_ANGSTROM, COULOMB_EV_ANGSTROM

_AMPLITUDES = (0.18175, 0.50986, 0.28022, 0.028171)
_DECAYS = (3.1998, 0.94229, 0.4029, 0.20162)


def zbl_pair_energy(length: Tensor, z_i: Tensor, z_j: Tensor) -> Tensor:
    """Repulsion of nuclei with charges ``z_i``, ``z_j`` at distance ``length`` (Å), eV; all [n_edges]."""
    z_i, z_j = z_i.to(length.dtype), z_j.to(length.dtype)
    screening = 0.88534 * BOHR_ANGSTROM / (z_i**0.23 + z_j**0.23)
    x = length / screening
    phi = torch.zeros_like(length)
    for amplitude, decay in zip(_AMPLITUDES, _DECAYS, strict=True):
        phi = phi + amplitude * torch.exp(-decay * x)
    return COULOMB_EV_ANGSTROM * z_i * z_j / length * phi
