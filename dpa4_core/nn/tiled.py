"""The messages of `Messages` for inference on a CPU: edges in tiles that stay in the cache, derivative by hand.

The plain formula makes one tensor of every intermediate for all edges. Each is far larger
than a cache and fresh from the system, so most of the time goes to page faults and to moving memory. Here a few hundred
edges go through the whole chain before the next ones start, in buffers that are used again, and the edges of a centre,
which lie side by side, are rotated back and summed by one matrix product. Weights are constants: the derivative reaches
the features and the geometry only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dpa4_core.nn.messages import Messages
from dpa4_core.nn.tiling import Tile, Tiling, buffer
from dpa4_core.threads import one_thread, stay_on_one_thread


class Kept(NamedTuple):
    """What the derivative of one tile needs; F streams, T edges, R = Dm·C.

    Attributes:
        z: [F, T, R] features at the end of the mixing stack.
        products: [layers − 1, F, T, R] of the gated layers, before their non-linearity.
        gates: [layers − 1, F, T, L·C].
        scalars: [F, T, C] invariant features before the mixing stack.
    """

    z: Tensor
    products: Tensor
    gates: Tensor
    scalars: Tensor


class Slopes(NamedTuple):
    """Gradients that the tiles fill in; those of ``features`` collide, so every worker has its own, [workers, …]."""

    features: Tensor
    rotation: Tensor
    condition: Tensor
    alpha: Tensor


class TiledMessages(torch.autograd.Function):
    """`Messages` with frozen weights."""

    @staticmethod
    def forward(
        ctx: Any,
        messages: Messages,
        tiling: Tiling,
        keep: bool,
        src: Tensor,
        features: Tensor,
        rotation: Tensor,
        condition: Tensor,
        alpha: Tensor,
    ) -> Tensor:
        work = _Work(messages, src, features, rotation, condition, alpha)
        out = features.new_zeros(features.shape[1], rotation.shape[2], messages.n_focus * messages.channels)
        kept = work.room(tiling) if keep else None

        def forward(tile: Tile, _worker: int) -> None:
            work.forward(tile, work.part(kept, tile), out)

        _run(forward, tiling)
        ctx.work, ctx.tiling, ctx.kept = work, tiling, kept
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        work, tiling, kept = ctx.work, ctx.tiling, ctx.kept
        grad = grad.contiguous()
        slopes = Slopes(
            work.features.new_zeros(tiling.n_workers, *work.features.shape),
            *(torch.empty_like(x) for x in (work.rotation, work.condition, work.alpha)),
        )

        def backward(tile: Tile, worker: int) -> None:
            part = work.part(kept, tile)
            if kept is None:
                work.forward(tile, part, None)
            work.backward(tile, part, grad, slopes, slopes.features[worker])

        _run(backward, tiling)
        return None, None, None, None, slopes.features.sum(0), slopes.rotation, slopes.condition, slopes.alpha


class _Work:
    """One convolution on one graph; arguments as those of `Messages`, without gradients."""

    def __init__(
        self, messages: Messages, src: Tensor, features: Tensor, rotation: Tensor, condition: Tensor, alpha: Tensor
    ) -> None:
        self.formula, self.src = messages, src
        self.features = features.detach().contiguous()
        self.rotation, self.condition, self.alpha = rotation.detach(), condition.detach(), alpha.detach()
        self.matrices, self.gates = messages.matrices, messages.gates
        width, foci, lmax = messages.channels, messages.n_focus, messages.lmax
        self.foci, self.width, self.n_rows = foci, width, 3 * lmax + 1
        self.n_even, self.n_odd = (lmax + 1) * width, lmax * width

    def room(self, tiling: Tiling) -> Tensor:
        """For what all tiles keep, [tiles, numbers of the largest]."""
        per_edge = self.width * self.foci + sum(self._sizes())
        return tiling.keep_buffer(len(tiling.tiles), tiling.largest * per_edge, like=self.features)

    def _sizes(self) -> tuple[int, int, int]:
        whole, n_gated = self.foci * self.n_rows * self.width, len(self.gates)
        return whole, n_gated * whole, n_gated * self.foci * self.n_odd

    def part(self, kept: Tensor | None, tile: Tile) -> Kept:
        """The room of one tile: in ``kept``, or in the buffer of this thread."""
        n_edges = tile.stop - tile.start
        sizes = [size * n_edges for size in (*self._sizes(), self.foci * self.width)]
        memory = self._buffer("kept", sum(sizes)) if kept is None else kept[tile.number]
        z, products, gates, scalars = memory[: sum(sizes)].split(sizes)
        shape, n_gated = (self.foci, n_edges, -1), len(self.gates)
        return Kept(
            z.view(shape),
            products.view(n_gated, self.foci, n_edges, self.n_rows * self.width),
            gates.view(n_gated, self.foci, n_edges, self.n_odd),
            scalars.view(shape),
        )

    def _buffer(self, name: str, *shape: int) -> Tensor:
        return buffer(name, shape, self.features)

    def forward(self, tile: Tile, kept: Kept, out: Tensor | None) -> None:
        """Fill ``kept``, and the rows of ``out`` [n, D, H] that belong to the centres of this tile."""
        formula, here = self.formula, slice(tile.start, tile.stop)
        n_edges, n_rows, width = tile.stop - tile.start, self.n_rows, self.width
        rotation = self.rotation[here]
        rotate_in, scale = formula.rotate_in(rotation, self.condition[here])
        gathered = self._buffer("gathered", n_edges, *self.features.shape[2:])
        for features, z in zip(self.features, kept.z, strict=True):
            torch.index_select(features, 0, self.src[here], out=gathered)
            torch.bmm(rotate_in, gathered, out=z.view(n_edges, n_rows, width))
        if scale is not None:
            kept.z.view(-1, n_edges, n_rows, width).mul_(scale.permute(2, 0, 1, 3))
        kept.scalars.copy_(kept.z[:, :, :width])
        for layer in range(len(self.matrices)):
            self._mix(kept, layer)
        if out is None:
            return
        competition, alpha = self._competition(kept.scalars), self.alpha[here]
        columns = self._weighted(kept, alpha if competition is None else alpha * competition)
        rows = formula.rotate_out(rotation).flatten(0, 1)
        for atom, first, last in tile.centres:
            part = slice(first * n_rows, last * n_rows)
            torch.mm(rows[part].T, columns[part], out=out[atom])

    def _competition(self, scalars: Tensor) -> Tensor | None:
        """What each stream is left with, [T, F], of scalars [F, T, C]; None with one stream."""
        return self.formula.focus_share(scalars) if self.foci > 1 else None

    def _weighted(self, kept: Kept, share: Tensor) -> Tensor:
        """The features times α, with the streams side by side, [T·Dm, H]."""
        n_edges = len(share)
        weighted = self._buffer("weighted", n_edges, self.n_rows, self.foci, self.width)
        for focus, z in enumerate(kept.z):
            z = z.view(n_edges, self.n_rows, self.width)
            torch.mul(z, share[:, focus, None, None], out=weighted[:, :, focus])
        return weighted.view(n_edges * self.n_rows, -1)

    def _odd(self, x: Tensor) -> Tensor:
        """The entries of order −1 and +1 of [F, T, R], [F, T, 2, L·C]."""
        return x[:, :, self.n_even :].unflatten(2, (2, self.n_odd))

    def _mix(self, kept: Kept, layer: int) -> None:
        z, n_even, width = kept.z, self.n_even, self.width
        order_0, order_1 = self.matrices[layer]
        gated = layer < len(self.gates)
        product = kept.products[layer] if gated else self._buffer("product", *z.shape)
        for focus in range(self.foci):
            torch.mm(z[focus, :, :n_even], order_0[focus], out=product[focus, :, :n_even])
            torch.mm(z[focus, :, n_even:], order_1[focus], out=product[focus, :, n_even:])
        if not gated:
            z.add_(product)
            return
        scalar, gate = product[:, :, :width], kept.gates[layer]
        for focus in range(self.foci):
            torch.mm(scalar[focus], self.gates[layer][focus], out=gate[focus])
        gate.sigmoid_()
        z[:, :, :width] += F.silu(scalar)
        z[:, :, width:n_even].addcmul_(product[:, :, width:n_even], gate)
        self._odd(z).addcmul_(self._odd(product), gate[:, :, None])

    def _mix_back(self, kept: Kept, grad: Tensor, layer: int) -> None:
        """From the gradient [F, T, R] after a layer to that before it, in place; uses ``kept`` up."""
        n_even, width = self.n_even, self.width
        order_0, order_1 = self.matrices[layer]
        inner = self._buffer("product", *grad.shape)
        if layer < len(self.gates):
            product, gate = kept.products[layer], kept.gates[layer]
            scalar, vector = product[:, :, :width], (3, self.n_odd)
            direct, vectors = grad[:, :, :width].contiguous(), inner[:, :, width:]
            torch.mul(grad[:, :, width:].unflatten(2, vector), gate[:, :, None], out=vectors.unflatten(2, vector))
            # inner holds the gate once already, and its derivative is gate (1 − gate)
            slope = product[:, :, width:].mul_(vectors).unflatten(2, vector).sum(2)
            slope.addcmul_(slope, gate, value=-1)
            direct = torch.ops.aten.silu_backward(direct, scalar.contiguous())
            for focus in range(self.foci):
                torch.addmm(direct[focus], slope[focus], self.gates[layer][focus].T, out=inner[focus, :, :width])
        else:
            inner.copy_(grad)
        for focus in range(self.foci):
            grad[focus, :, :n_even].addmm_(inner[focus, :, :n_even], order_0[focus].T)
            grad[focus, :, n_even:].addmm_(inner[focus, :, n_even:], order_1[focus].T)

    def backward(self, tile: Tile, kept: Kept, grad: Tensor, slopes: Slopes, features_slope: Tensor) -> None:
        """Fill in the slopes of one tile; ``grad`` [n, D, H] belongs to the output. Uses ``kept`` up."""
        formula, here = self.formula, slice(tile.start, tile.stop)
        n_edges, n_rows, width = tile.stop - tile.start, self.n_rows, self.width
        scalars, alpha = kept.scalars.clone().requires_grad_(), self.alpha[here]
        with torch.enable_grad():
            competition = self._competition(scalars)
        share = alpha if competition is None else alpha * competition.detach()

        columns, rotation = self._weighted(kept, share), self.rotation[here]
        rows = formula.rotate_out(rotation).flatten(0, 1)
        back, row_slopes = self._buffer("back", *columns.shape), self._buffer("row_slopes", *rows.shape)
        for atom, first, last in tile.centres:
            part = slice(first * n_rows, last * n_rows)
            torch.mm(columns[part], grad[atom].T, out=row_slopes[part])
            torch.mm(rows[part], grad[atom], out=back[part])
        rotation_slope = row_slopes.view(n_edges, -1) @ formula.spread.T

        inner = self._buffer("grad", self.foci, n_edges, n_rows * width)
        share_slope = torch.empty_like(share)
        by_stream = back.view(n_edges, n_rows, self.foci, width).unbind(2)
        for focus, (z, stream, outer) in enumerate(zip(kept.z, inner, by_stream, strict=True)):
            stream.view(n_edges, n_rows, width).copy_(outer)
            share_slope[:, focus] = z.mul_(stream).sum(1)
            stream.mul_(share[:, focus, None])
        for layer in reversed(range(len(self.matrices))):
            self._mix_back(kept, inner, layer)
        if competition is None:
            slopes.alpha[here] = share_slope
        else:
            torch.mul(share_slope, competition.detach(), out=slopes.alpha[here])
            (through,) = torch.autograd.grad(competition, scalars, share_slope * alpha)
            inner[:, :, :width] += through
        self._rotate_in_back(
            here, inner.view(self.foci, n_edges, n_rows, width), rotation_slope, slopes, features_slope
        )

    def _rotate_in_back(
        self, here: slice, grad: Tensor, rotation_slope: Tensor, slopes: Slopes, features_slope: Tensor
    ) -> None:
        formula, src, rotation, condition = self.formula, self.src[here], self.rotation[here], self.condition[here]
        matrices, scale = formula.rotate_in(rotation, condition)
        slope = torch.zeros_like(matrices)
        scale_slope = None if scale is None else torch.empty_like(scale)
        gathered = self._buffer("gathered", len(src), *self.features.shape[2:])
        for focus, features in enumerate(self.features):
            torch.index_select(features, 0, src, out=gathered)
            outer = grad[focus]
            if scale is not None and scale_slope is not None:
                scale_slope[:, :, focus] = torch.bmm(matrices, gathered) * outer
                outer = outer * scale[:, :, focus]
            slope.baddbmm_(outer, gathered.transpose(1, 2))
            torch.bmm(matrices.transpose(1, 2), outer, out=gathered)
            features_slope[focus].index_add_(0, src, gathered)
        through, slopes.condition[here] = formula.rotate_in_back(rotation, condition, slope, scale_slope)
        torch.add(through, rotation_slope.view_as(through), out=slopes.rotation[here])


def tiled_messages(
    messages: Messages,
    tiling: Tiling,
    keep: bool,
    src: Tensor,
    _dst: Tensor,
    features: Tensor,
    rotation: Tensor,
    condition: Tensor,
    alpha: Tensor,
) -> Tensor:
    """``messages`` of the arguments, differentiable once and with frozen weights.

    ``keep``: whether intermediates are kept for the derivative or computed again. The tiling knows ``dst``.
    """
    return TiledMessages.apply(messages, tiling, keep, src, features, rotation, condition, alpha)


_pools: dict[int, ThreadPoolExecutor] = {}
if hasattr(os, "register_at_fork"):  # not on Windows; threads do not live on in a forked process
    os.register_at_fork(after_in_child=_pools.clear)


def _run(work: Callable[[Tile, int], None], tiling: Tiling) -> None:
    """All tiles, by the workers of the tiling; one thread each, since a tile is small.

    Which worker gets which tile is fixed, so that sums are taken in the same order every time.
    """
    n_workers = tiling.n_workers

    @torch.no_grad()
    def share(worker: int) -> None:
        for tile in tiling.tiles[worker::n_workers]:
            work(tile, worker)

    if n_workers == 1:
        share(0)
        return
    if n_workers not in _pools:
        _pools[n_workers] = ThreadPoolExecutor(n_workers, "dpa4-tiles", initializer=stay_on_one_thread)
    with one_thread():
        list(_pools[n_workers].map(share, range(n_workers)))
