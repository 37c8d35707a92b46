"""Energy offsets per element: what a least-squares fit on compositions alone says about the energies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dpa4_core.errors import DPA4Error
from dpa4_core.model.dpa4 import DPA4

_BUFFERED_ROWS = 1024
_DECIDED = 0.1  # eV; with a larger standard error formation energies mean less than corrections are good for


@dataclass(frozen=True)
class OffsetResult:
    """Offsets and how well they describe the energies.

    Attributes:
        offsets: [n_species] float64, eV; 0 for an element that never occurs.
        seen: [n_species] bool, whether the element occurs.
        decided: [n_species] bool, whether its offset is known by itself: False for an element that occurs in fixed
            proportions to others only, or nearly so, or never.
        rmse_per_atom: eV/atom, over frames; NaN without frames.
        n_frames: frames that had an energy.
    """

    offsets: Tensor
    seen: Tensor
    decided: Tensor
    rmse_per_atom: float
    n_frames: int


class OffsetFit:
    """b = argmin Σ_frames ((n·b − E)/N)² over any number of frames, in constant memory.

    Frames are weighted by 1/N, N their atoms: what composition leaves unexplained grows with N, and a few large cells
    would outvote the rest. The rows [n | E]/N are folded into a triangle by QR, which keeps the digits that normal
    equations square away: energies of 10⁵ eV give offsets to 10⁻⁹ eV.
    """

    def __init__(self, n_species: int) -> None:
        self.n_species, self.n_frames = n_species, 0
        self._triangle = torch.zeros(0, n_species + 1, dtype=torch.float64)
        self._rows: list[Tensor] = []
        self._seen = torch.zeros(n_species, dtype=torch.bool)

    def add(self, counts: Tensor, energies: Tensor) -> None:
        """Take in frames; those without atoms or whose energy is not finite, as NaN for "no label", are left out.

        Args:
            counts: atoms per species, [n_frames, n_species].
            energies: [n_frames] eV.
        """
        rows = torch.cat([counts.double(), energies.double()[:, None]], dim=1).detach().cpu()
        if rows.shape[1] != self.n_species + 1:
            raise DPA4Error(f"counts have {rows.shape[1] - 1} species, the fit {self.n_species}")
        n_atoms = rows[:, :-1].sum(1)
        kept = rows[:, -1].isfinite() & (n_atoms > 0)
        self.n_frames += int(kept.sum())
        self._seen |= (rows[kept, :-1] > 0).any(0)
        self._rows.append(rows[kept] / n_atoms[kept, None])
        if sum(len(part) for part in self._rows) > _BUFFERED_ROWS:
            self._fold()

    def _fold(self) -> None:
        stacked = torch.cat([self._triangle, *self._rows])
        self._triangle, self._rows = torch.linalg.qr(stacked, mode="r").R, []

    def solve(self, fixed: Mapping[int, float] | None = None) -> OffsetResult:
        """The offsets of least norm among the best ones, so that inseparable elements share in proportion to counts.

        Args:
            fixed: offsets in eV that are given, by species; the others are fitted to the rest.
        """
        self._fold()
        matrix, target = self._triangle[:, :-1].clone(), self._triangle[:, -1]
        offsets = torch.zeros(self.n_species, dtype=torch.float64)
        free = self._seen.clone()
        for species, value in (fixed or {}).items():
            offsets[species], free[species] = value, False
        target = target - matrix @ offsets
        matrix[:, ~free] = 0.0
        u, singular, vt = torch.linalg.svd(matrix, full_matrices=False)
        # rounding of a triangle that many frames went through, relative to the largest singular value
        cut = torch.finfo(torch.float64).eps * max(self.n_frames, self.n_species)
        kept = singular > cut * singular.max() if len(singular) else singular > 0
        fitted = vt[kept].T @ ((u[:, kept].T @ target) / singular[kept])
        offsets = torch.where(free, fitted, offsets)
        row_space = vt[kept].T
        left = self._triangle[:, -1] - self._triangle[:, :-1] @ offsets
        rmse = math.sqrt(left.square().sum().item() / self.n_frames) if self.n_frames else math.nan
        # of the unit vector of each element: its part within the space of the compositions, and its standard error
        inside = row_space.square().sum(1) > 1 - 1e-6
        error = (0.0 if math.isnan(rmse) else rmse) * (row_space / singular[kept]).square().sum(1).sqrt()
        decided = ~free & self._seen | free & inside & (error < _DECIDED)
        return OffsetResult(offsets, self._seen.clone(), decided, rmse, self.n_frames)


def set_offsets(model: DPA4, offsets: Tensor) -> None:
    """Give ``model`` the offsets [n_species], eV; in addition to ``fit_bias``, zero in all but old files."""
    model.out_bias.copy_(_checked(model, offsets))


def shift_offsets(model: DPA4, delta: Tensor) -> None:
    """Add ``delta`` [n_species], eV, to the offsets of ``model``."""
    model.out_bias.add_(_checked(model, delta))


def _checked(model: DPA4, offsets: Tensor) -> Tensor:
    if offsets.shape != (n_species := len(model.config.elements),):
        raise DPA4Error(f"the model has {n_species} species, got offsets of shape {tuple(offsets.shape)}")
    return offsets.detach().to(model.out_bias)[None, :, None]
