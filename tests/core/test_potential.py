"""Loading and computing, whatever state the caller is in."""

import pytest
import torch
from ase.build import molecule
from oracle_data import ORACLE

import dpa4_core as dpa4
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import to_system
from dpa4_core.errors import DPA4Error
from dpa4_core.model.config import DPA4Config, RadialConfig

NANO = ORACLE / "tiny" / "nano_like.pt"


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_forces_do_not_depend_on_the_gradient_mode_of_the_caller(context):
    potential = dpa4.load(NANO)
    graph = build_graph([to_system(molecule("H2O"))], potential.cutoff)
    expected = potential.compute(graph).forces
    with context():
        inside = build_graph([to_system(molecule("H2O"))], potential.cutoff)
        forces = potential.compute(inside).forces
    torch.testing.assert_close(forces, expected)
    assert not expected.requires_grad


def test_training_mode_is_the_same_function_and_is_kept():
    model = dpa4.DPA4(DPA4Config.preset("nano", elements=("H", "O"), channels=8)).train()
    potential = dpa4.Potential(model)
    graph = build_graph([to_system(molecule("H2O"))], potential.cutoff)
    training = potential.compute(graph)
    assert model.training and all(p.requires_grad for p in model.parameters())
    assert potential.info.n_parameters == sum(p.numel() for p in model.parameters())
    model.eval()
    assert torch.equal(training.forces, potential.compute(graph).forces)


@pytest.mark.parametrize("name", ["neo_like", "nano_like", "pro_like"])
def test_low_precision_in_the_blocks_changes_little_and_keeps_the_features_precise(name):
    potential = dpa4.load(ORACLE / "tiny" / f"{name}.pt")
    graph = build_graph([to_system(molecule("CH3CH2OH"))], potential.cutoff)
    seen = []
    for block in potential.model.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    exact = potential.compute(graph)
    potential.model.block_precision = torch.bfloat16
    rough = potential.compute(graph)
    assert not torch.equal(rough.forces, exact.forces)
    assert (rough.forces - exact.forces).norm() < 0.05 * exact.forces.norm()
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize(
    "device, message", [("gpu", "unknown device 'gpu'"), ("cuda:99", "sees . CUDA devices"), ("mps", "not supported")]
)
def test_devices_that_are_not_there(device, message):
    with pytest.raises(DPA4Error, match=message):
        dpa4.load(NANO, device=device)


def test_device_objects_and_auto():
    assert dpa4.load(NANO, device=torch.device("cpu")).device.type == "cpu"
    assert dpa4.load(NANO, device="auto").device.type in ("cpu", "cuda")
    with pytest.raises(DPA4Error, match="unknown dtype 'bfloat16'"):
        dpa4.load(NANO, dtype="bfloat16")


@pytest.mark.parametrize(
    "changes", [{"readout": "glu"}, {"ffn_grid": "so3"}, {"ffn_product": "mlpx"}, {"lmax": 11}, {"charge_spin": (0,)}]
)
def test_configurations_that_mean_nothing_are_refused(changes):
    with pytest.raises(DPA4Error, match=next(iter(changes))):
        DPA4Config.preset("nano", **changes)


def test_misspelt_basis_is_refused():
    with pytest.raises(DPA4Error, match="basis must be one of bessel, gaussian"):
        DPA4Config.preset("nano", radial=RadialConfig(basis="besel"))
