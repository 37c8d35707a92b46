"""The strategy of training on a CPU: mixing stack and sums over the edges of a centre with derivatives by hand.

Autograd makes one tensor of every intermediate for all edges, in the formula, in its derivative and in the derivative
of that, and most of a step goes to moving them. Here a few hundred edges at a time go through a layer of the mixing
stack or one of its derivatives, in buffers that are used again, and the edges of a centre, which lie side by side, are
summed by one matrix product. Everything is differentiable twice: by the geometry, then by geometry and weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from dpa4_core.nn.edges import ProductStrategy
from dpa4_core.nn.messages import Messages
from dpa4_core.nn.tiling import EDGES_PER_TILE, Tiling, buffer


class Place(Protocol):
    """At which atom i(e) an edge is, its centre or its neighbour, and products over edges and atoms for it.

    Tensors are rows [n_edges, k, a], z [n_edges, k, b] and x [n_atoms, a, b]; one of the three is ``out``.
    """

    def collect(self, rows: Tensor, z: Tensor, out: Tensor) -> None:
        """out[i] = Σ rows[e]ᵀ z[e] over the edges of an atom, into zeros."""

    def spread(self, rows: Tensor, x: Tensor, out: Tensor) -> None:
        """out[e] = rows[e] x[i(e)]."""

    def outer(self, z: Tensor, x: Tensor, out: Tensor) -> None:
        """out[e] = z[e] x[i(e)]ᵀ."""


class AtCentre:
    """The edges of an atom lie side by side: one product for each atom."""

    def __init__(self, tiling: Tiling) -> None:
        self._segments = tuple(tiling.segments())

    def _parts(self, each: int) -> Iterator[tuple[int, slice]]:
        """Every atom with edges, and the rows of these, ``each`` for an edge."""
        for atom, part in self._segments:
            yield atom, slice(part.start * each, part.stop * each)

    def collect(self, rows: Tensor, z: Tensor, out: Tensor) -> None:
        left, right = rows.flatten(0, 1), z.flatten(0, 1)
        for atom, part in self._parts(rows.shape[1]):
            torch.mm(left[part].T, right[part], out=out[atom])

    def spread(self, rows: Tensor, x: Tensor, out: Tensor) -> None:
        left, filled = rows.flatten(0, 1), out.flatten(0, 1)
        for atom, part in self._parts(rows.shape[1]):
            torch.mm(left[part], x[atom], out=filled[part])

    def outer(self, z: Tensor, x: Tensor, out: Tensor) -> None:
        self.spread(z, x.mT, out)


class AtNeighbour:
    """The edges of an atom are anywhere: a few of them at a time."""

    def __init__(self, src: Tensor) -> None:
        self._src = src

    def collect(self, rows: Tensor, z: Tensor, out: Tensor) -> None:
        for tile in _tiles(len(z)):
            part = buffer("gathered", (len(z[tile]), *out.shape[1:]), out)
            out.index_add_(0, self._src[tile], torch.bmm(rows[tile].mT, z[tile], out=part))

    def spread(self, rows: Tensor, x: Tensor, out: Tensor) -> None:
        for tile in _tiles(len(rows)):
            torch.bmm(rows[tile], self._gathered(x, tile), out=out[tile])

    def outer(self, z: Tensor, x: Tensor, out: Tensor) -> None:
        for tile in _tiles(len(z)):
            torch.bmm(z[tile], self._gathered(x, tile).mT, out=out[tile])

    def _gathered(self, x: Tensor, tile: slice) -> Tensor:
        src = self._src[tile]
        return torch.index_select(x, 0, src, out=buffer("gathered", (len(src), *x.shape[1:]), x))


class ByHand(ProductStrategy):
    """For edges sorted by centre.

    A derivative that is differentiated again takes the gates of the mixing stack for constants, as forces do.

    Args:
        tiling: of the edges.
    """

    def __init__(self, tiling: Tiling) -> None:
        self._centre = AtCentre(tiling)

    def outer(self, left: Tensor, right: Tensor, dst: Tensor, n_atoms: int) -> Tensor:
        return collect(left[:, None], right[:, None], self._centre, n_atoms)

    def messages(self, messages: Messages, *tensors: Tensor) -> Tensor:
        return _Messages(**vars(messages), centre=self._centre)(*tensors)


@dataclass(frozen=True)
class _Messages(Messages):
    """The same formula by the functions below."""

    centre: AtCentre

    def gather(self, rows: Tensor, features: Tensor, src: Tensor) -> Tensor:
        out: Tensor = _Spread.apply(rows, features, AtNeighbour(src))
        return out

    def gated(self, even: Tensor, odd: Tensor, out_0: Tensor, out_1: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        both: tuple[Tensor, Tensor] = _Gate.apply(even, odd, out_0, out_1, gate)
        return both

    def collect(self, rows: Tensor, z: Tensor, dst: Tensor, n_atoms: int) -> Tensor:
        return collect(rows, z, self.centre, n_atoms)


# ---- products over edges and atoms, closed under differentiation


def collect(rows: Tensor, z: Tensor, place: Place, n_atoms: int) -> Tensor:
    """Σ rows[e]ᵀ z[e] over the edges of an atom: [n_edges, k, a], [n_edges, k, b] → [n_atoms, a, b]."""
    out: Tensor = _Collect.apply(rows, z, place, n_atoms)
    return out


class _Collect(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, z: Tensor, place: Place, n_atoms: int) -> Tensor:
        ctx.save_for_backward(rows, z)  # themselves: a copy would be none of the inputs that are differentiated again
        ctx.place = place
        out = z.new_zeros(n_atoms, rows.shape[2], z.shape[2])
        place.collect(rows.contiguous(), z.contiguous(), out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (rows, z), place, need = ctx.saved_tensors, ctx.place, ctx.needs_input_grad
        of_rows = _Outer.apply(z, grad, place) if need[0] else None
        return of_rows, _Spread.apply(rows, grad, place) if need[1] else None, None, None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, x: Tensor, place: Place) -> Tensor:
        ctx.save_for_backward(rows, x)
        ctx.place = place
        out = rows.new_empty(*rows.shape[:2], x.shape[2])
        place.spread(rows.contiguous(), x.contiguous(), out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (rows, x), place, need = ctx.saved_tensors, ctx.place, ctx.needs_input_grad
        of_rows = _Outer.apply(grad, x, place) if need[0] else None
        return of_rows, _Collect.apply(rows, grad, place, len(x)) if need[1] else None, None


class _Outer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, x: Tensor, place: Place) -> Tensor:
        ctx.save_for_backward(z, x)
        ctx.place = place
        out = z.new_empty(*z.shape[:2], x.shape[1])
        place.outer(z.contiguous(), x.contiguous(), out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (z, x), place, need = ctx.saved_tensors, ctx.place, ctx.needs_input_grad
        of_z = _Spread.apply(grad, x, place) if need[0] else None
        return of_z, _Collect.apply(grad, z, place, len(x)) if need[1] else None, None


# ---- the gate of a layer of the mixing stack: its elementwise part, some rows at a time


def _tiles(n_rows: int) -> Iterator[slice]:
    for start in range(0, n_rows, EDGES_PER_TILE):
        yield slice(start, min(start + EDGES_PER_TILE, n_rows))


class _Gate(torch.autograd.Function):
    """(x, y) + (silu(s), v g, w g) with (s, v) and w the products of a layer and g = σ(s G), all of them [n_edges, …].

    A derivative that is differentiated again takes G for a constant.
    """

    @staticmethod
    def forward(
        ctx: Any, even: Tensor, odd: Tensor, out_0: Tensor, out_1: Tensor, gate: Tensor
    ) -> tuple[Tensor, Tensor]:
        factor = out_0.new_empty(len(out_0), gate.shape[1])
        sums = torch.empty_like(out_0), torch.empty_like(out_1)
        for rows in _tiles(len(out_0)):
            s, v, w = _parts(out_0[rows], out_1[rows])
            g = torch.mm(s, gate, out=factor[rows]).sigmoid_()
            for total, start in zip(sums, (even, odd), strict=True):
                total[rows].copy_(start[rows])
            scalar, vector, pair = _parts(sums[0][rows], sums[1][rows])
            scalar.add_(F.silu(s))
            vector.addcmul_(v, g)
            pair.addcmul_(w, g[:, None])
        ctx.save_for_backward(out_0, out_1, gate, factor)
        return sums

    @staticmethod
    def backward(ctx: Any, grad_0: Tensor, grad_1: Tensor) -> tuple[Tensor | None, ...]:
        out_0, out_1, gate, factor = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again
            return grad_0, grad_1, *_GateBack.apply(grad_0, grad_1, out_0, out_1, gate, factor), None
        of_gate = torch.zeros_like(gate) if ctx.needs_input_grad[4] else None
        return grad_0, grad_1, *_back(grad_0, grad_1, out_0, out_1, gate, factor, of_gate), of_gate


class _GateBack(torch.autograd.Function):
    """The gradients of both products from those of the gate."""

    @staticmethod
    def forward(
        ctx: Any, grad_0: Tensor, grad_1: Tensor, out_0: Tensor, out_1: Tensor, gate: Tensor, factor: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(grad_0, grad_1, out_0, out_1, gate, factor)
        return _back(grad_0, grad_1, out_0, out_1, gate, factor, None)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, along_0: Tensor, along_1: Tensor) -> tuple[Tensor | None, ...]:
        """Of ⟨q, p⟩, q what is along and p what `_back` gives, by the gradients h, by the products and by G."""
        grad_0, grad_1, out_0, out_1, gate, factor = ctx.saved_tensors
        of_gate = torch.zeros_like(gate) if ctx.needs_input_grad[4] else None
        of_grad, of_out = ((torch.empty_like(out_0), torch.empty_like(out_1)) for _ in range(2))
        for rows in _tiles(len(out_0)):
            s, v, w = _parts(out_0[rows], out_1[rows])
            h_s, h_v, h_w = _parts(grad_0[rows], grad_1[rows])
            q_s, q_v, q_w = _parts(along_0[rows], along_1[rows])
            g = factor[rows]
            g_1 = g - g * g  # σ'; σ'' = σ' (1 − 2σ)
            bent = torch.mm(q_s, gate).mul_(g_1)
            # by h: the change of the gate along q
            to_s, to_v, to_w = _parts(of_grad[0][rows], of_grad[1][rows])
            sigma = torch.sigmoid(s)
            slope = 1 - sigma
            slope.mul_(s).add_(1).mul_(sigma)  # silu'
            torch.mul(q_s, slope, out=to_s)
            torch.mul(q_v, g, out=to_v).addcmul_(bent, v)
            torch.mul(q_w, g[:, None], out=to_w).addcmul_(bent[:, None], w)
            # by the products, of which s is in G too
            by_s, by_v, by_w = _parts(of_out[0][rows], of_out[1][rows])
            torch.mul(bent, h_v, out=by_v)
            torch.mul(bent[:, None], h_w, out=by_w)
            of_factor = _of_factor(v, w, h_v, h_w)
            of_logit = _of_factor(q_v, q_w, h_v, h_w).mul_(g_1)
            of_logit.add_(bent.mul_(of_factor).mul_(1 - 2 * g))
            curve = 1 - sigma
            curve.mul_(sigma).mul_(2 + s * (1 - 2 * sigma))  # silu''
            torch.addmm(curve.mul_(q_s).mul_(h_s), of_logit, gate.T, out=by_s)
            if of_gate is not None:
                of_gate.addmm_(s.T, of_logit).addmm_(q_s.T, of_factor.mul_(g_1))
        return *of_grad, *of_out, of_gate, None


def _parts(even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scalars [n, C], vectors of order 0 [n, L·C] and of orders ±1 [n, 2, L·C]."""
    n_vectors = odd.shape[1] // 2
    return even[:, :-n_vectors], even[:, -n_vectors:], odd.unflatten(1, (2, n_vectors))


def _of_factor(v: Tensor, w: Tensor, h_v: Tensor, h_w: Tensor) -> Tensor:
    """⟨v, h_v⟩ + ⟨w, h_w⟩ over the three vectors of a degree and channel, [n, L·C]."""
    return (v * h_v).addcmul_(w[:, 0], h_w[:, 0]).addcmul_(w[:, 1], h_w[:, 1])


def _back(
    grad_0: Tensor, grad_1: Tensor, out_0: Tensor, out_1: Tensor, gate: Tensor, factor: Tensor, of_gate: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Gradients of the products of a layer from those of its gate; that of G is added to ``of_gate``."""
    slopes = torch.empty_like(out_0), torch.empty_like(out_1)
    for rows in _tiles(len(out_0)):
        s, v, w = _parts(out_0[rows], out_1[rows])
        h_s, h_v, h_w = _parts(grad_0[rows], grad_1[rows])
        to_s, to_v, to_w = _parts(slopes[0][rows], slopes[1][rows])
        g = factor[rows]
        torch.mul(h_v, g, out=to_v)
        torch.mul(h_w, g[:, None], out=to_w)
        of_logit = _of_factor(v, w, h_v, h_w).mul_(g - g * g)
        direct = torch.ops.aten.silu_backward(h_s.contiguous(), s.contiguous())
        torch.addmm(direct, of_logit, gate.T, out=to_s)
        if of_gate is not None:
            of_gate.addmm_(s.T, of_logit)
    return slopes
