"""Every stand-alone function against the reference, float64."""

import numpy as np
import pytest
import torch
from oracle_data import ORACLE

from dpa4_core.model.zbl import zbl_pair_energy
from dpa4_core.nn.convolution import envelope_softmax
from dpa4_core.nn.edges import EdgeData
from dpa4_core.nn.grid import Field, RotationGrid, SphereGrid
from dpa4_core.nn.layout import degree_slice, reduced_index
from dpa4_core.nn.linear import SO2Linear
from dpa4_core.nn.norm import EquivariantRMSNorm
from dpa4_core.nn.radial import BesselBasis, GaussianBasis, bridge_clamp, bridge_switch, envelope
from dpa4_core.nn.rotation import Harmonics, edge_frame, spread_rows

F64 = torch.float64
TOLERANCE = {"rtol": 1e-10, "atol": 2e-12}


@pytest.fixture(scope="module")
def units():
    data = np.load(ORACLE / "units.npz")
    return {key: torch.from_numpy(data[key]) for key in data}


@pytest.mark.parametrize("exponent", [3, 4, 5, 7])
def test_envelope(units, exponent):
    torch.testing.assert_close(
        envelope(units["r_grid"], 6.0, exponent), units[f"envelope_p{exponent}_rc6"], **TOLERANCE
    )


def test_radial_bases_with_envelope(units):
    r = units["r_grid"][:, None]
    cut = envelope(r, 6.0, 7)
    torch.testing.assert_close(BesselBasis(16, 6.0, F64)(r).detach() * cut, units["bessel16_rc6_p7"], **TOLERANCE)
    gaussian = GaussianBasis(16, 6.0, F64, trainable=True)(r).detach()
    torch.testing.assert_close(gaussian * cut, units["gaussian16_rc6_p7"], **TOLERANCE)


def test_bridge_clamp_and_switch(units):
    r = units["short_r"]
    torch.testing.assert_close(bridge_clamp(r, 0.5, 0.8), units["inner_clamp_05_08"], **TOLERANCE)
    torch.testing.assert_close(bridge_switch(r, 0.5, 0.8), units["bridge_switch_05_08"], **TOLERANCE)


@pytest.mark.parametrize("z_i, z_j", [(1, 8), (8, 8), (79, 79), (1, 79)])
def test_zbl_repulsion(units, z_i, z_j):
    r = units["zbl_r"]
    ours = zbl_pair_energy(r, torch.full_like(r, z_i), torch.full_like(r, z_j))
    torch.testing.assert_close(ours, units[f"zbl_{z_i}_{z_j}"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("prefix, frames", [("wigner_l", "dir_rotmat"), ("rand_wigner_l", "rand_rotmat")])
@pytest.mark.parametrize("lmax", range(1, 7))
def test_rotation_rows_are_rows_of_the_wigner_matrices(units, prefix, frames, lmax):
    rotation = units[frames]
    full = torch.zeros(len(rotation), (lmax + 1) ** 2, (lmax + 1) ** 2, dtype=F64)
    for degree in range(lmax + 1):
        full[:, degree_slice(degree), degree_slice(degree)] = units[f"{prefix}{degree}"]
    rows = Harmonics(lmax, F64).rows(rotation[:, 2], rotation[:, 0], rotation[:, 1])
    rows = (rows.flatten(1) @ spread_rows(lmax, F64)).unflatten(1, (-1, full.shape[2]))
    torch.testing.assert_close(rows, full[:, reduced_index(lmax)], **TOLERANCE)


def test_edge_frame_is_a_proper_rotation_everywhere(units):
    direction = torch.nn.functional.normalize(units["dir_vec"], dim=1)
    for roll in (None, torch.rand(len(direction), 1, dtype=F64)):
        frame = torch.stack([*edge_frame(direction, roll), direction], dim=1)
        torch.testing.assert_close(frame @ frame.transpose(1, 2), torch.eye(3, dtype=F64).expand_as(frame))
        torch.testing.assert_close(torch.linalg.det(frame), torch.ones(len(frame), dtype=F64))


@pytest.mark.parametrize("lmax", range(1, 7))
def test_grid_products(units, lmax):
    def field(side, prefix, frames):
        coefficients = units[f"{prefix}_L{lmax}_{side}"][:, :, 0].unflatten(-1, (frames, 2)).transpose(0, 1)
        return Field(coefficients[:, :, 0], torch.cat(coefficients[1:, :, 1:].unbind(2)) if frames > 1 else None)

    for prefix, frames, grid in (("so3grid", 3, RotationGrid), ("s2grid", 1, SphereGrid)):
        product = grid(lmax, F64).product(field("left", prefix, frames), field("right", prefix, frames))
        expected = field("product", prefix, frames)
        torch.testing.assert_close(product.even, expected.even, **TOLERANCE)
        if frames > 1:
            torch.testing.assert_close(product.odd, expected.odd, **TOLERANCE)
            assert not units[f"so3grid_L{lmax}_product"][:, 0, 0, 2:].any()  # the entries that are left out


def test_equivariant_norm(units):
    norm = EquivariantRMSNorm(3, 4, F64)
    norm.load_state_dict({"scale": units["eqnorm_L3_scale"], "bias": units["eqnorm_L3_bias"]})
    torch.testing.assert_close(norm(units["eqnorm_L3_x"][:, :, 0]).detach(), units["eqnorm_L3_y"][:, :, 0], **TOLERANCE)


def test_so2_linear_orders_zero_and_one(units):
    x, y = units["so2lin_L3M2_x_FEDC"], units["so2lin_L3M2_y_FEDC"]
    linear = SO2Linear(3, 2, 3, F64)
    linear.load_state_dict({"weight_m0": units["so2lin_L3M2_w0"], "weight_m1": units["so2lin_L3M2_w1"]})
    order_0, order_1 = (m.detach() for m in linear.matrices())
    for focus in range(2):
        even = x[focus, :, :4].flatten(1) @ order_0[focus]
        torch.testing.assert_close(even, y[focus, :, :4].flatten(1), **TOLERANCE)
        odd = x[focus, :, 4:10].flatten(1) @ order_1[focus]
        torch.testing.assert_close(odd, y[focus, :, 4:10].flatten(1), **TOLERANCE)


def test_envelope_softmax(units):
    dst, weight = units["softmax_dst"].long(), units["softmax_env"][:, None]
    floor = torch.nn.functional.softplus(units["softmax_zbias"][:, 0]) + 1e-7
    for gate, expected in ((None, "softmax_alpha"), (units["softmax_srcw"][:, None], "softmax_alpha_gated")):
        edges = EdgeData(dst, dst, weight, weight, weight, gate)
        alpha = envelope_softmax(units["softmax_logits"][:, :, 0], edges, floor, 4)
        torch.testing.assert_close(alpha, units[expected][:, :, 0], **TOLERANCE)
