"""atomate2's own elastic and phonon flows beside the batched Makers: two codes, one model, the same numbers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from atomate2.forcefields.flows.elastic import ElasticMaker
from atomate2.forcefields.flows.eos import ForceFieldEosMaker
from atomate2.forcefields.flows.mpmorph import FastQuenchMLFFMDMaker, MPMorphMLFFMDMaker, SlowQuenchMLFFMDMaker
from jobflow import Flow, Job
from monty.json import MontyDecoder, MontyEncoder
from pymatgen.core import Structure
from toy_campaign import MORSE, rocksalt

from dpa4_core import relax
from dpa4_core.errors import DPA4Error
from dpa4_flows import extras
from dpa4_flows.engines import run_local
from dpa4_flows.makers.elastic_flow import DPA4ElasticMaker
from dpa4_flows.makers.named import BatchElasticMaker, BatchPhononMaker
from dpa4_flows.makers.relax import DPA4MDMaker, DPA4RelaxMaker, DPA4StaticMaker
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.phonons import Phonons

pytest.importorskip("phonopy")

MODEL = ModelRef(MORSE)
# atomate2 and phonopy warn about magnetic moments, deprecated units and names of their own
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def crystal() -> Structure:
    return relax([rocksalt("Mg")], MODEL.load(), fmax=1e-5)[0].structure


def test_flows_of_one_model_serialise() -> None:
    from dpa4_flows.makers.phonon_flow import DPA4PhononMaker

    for maker in (DPA4ElasticMaker.from_model(MORSE), DPA4PhononMaker.from_model(MODEL, min_length=7.0)):
        again = MontyDecoder().decode(json.dumps(maker, cls=MontyEncoder))
        assert type(again) is type(maker) and again.bulk_relax_maker.model == MODEL
    assert DPA4PhononMaker.from_model(MODEL, min_length=7.0).min_length == 7.0
    assert DPA4ElasticMaker.from_model(MODEL, relax_initial_structure=False).bulk_relax_maker is None


def test_missing_phonopy_is_said_on_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "dpa4_flows.makers.phonon_flow", raising=False)
    monkeypatch.setitem(sys.modules, "atomate2.forcefields.flows.phonons", None)
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DPA4Error, match=r"a phonon flow needs phonopy and seekpath, which are not installed: pip"):
        import dpa4_flows.makers.phonon_flow  # noqa: F401


@pytest.mark.slow
def test_elastic_tensors_agree(crystal: Structure, tmp_path: Path) -> None:
    flow = DPA4ElasticMaker.from_model(MODEL, relax_initial_structure=False).make(crystal)
    (replies,) = [run_local(flow, tmp_path)[flow.output.uuid]]
    expected = np.array(replies[max(replies)].output.elastic_tensor.ieee_format)
    (part,) = BatchElasticMaker(model=MODEL).documents([crystal])
    np.testing.assert_allclose(part.c_ij_gpa, expected, atol=0.005 * expected.max())


@pytest.mark.slow
def test_phonons_agree(crystal: Structure, tmp_path: Path) -> None:
    from dpa4_flows.makers.phonon_flow import DPA4PhononMaker

    (part,) = BatchPhononMaker(property=Phonons(min_length=7.0, mesh_length=100.0), model=MODEL).documents([crystal])
    maker = DPA4PhononMaker.from_model(MODEL, relax_initial_structure=False, create_thermal_displacements=False)
    flow = maker.make(crystal, supercell_matrix=part.supercell_matrix)
    replies = run_local(flow, tmp_path)[flow.output.uuid]
    document = replies[max(replies)].output
    assert part.f_max_thz == pytest.approx(float(np.max(document.phonon_bandstructure.bands)), abs=0.02)
    room = document.temperatures.index(300)
    (row,) = [row for row in part.thermal if row.temperature_k == 300]
    assert row.entropy_j_mol_k == pytest.approx(document.entropies[room] / 2, rel=0.005)
    assert row.heat_capacity_j_mol_k == pytest.approx(document.heat_capacities[room] / 2, rel=0.005)
    assert not document.has_imaginary_modes and part.verdict == "stable"


def relaxing(**options: Any) -> DPA4RelaxMaker:
    return DPA4RelaxMaker(model=MORSE, relax_kwargs={"fmax": 1e-3}, **options)


STATIC = DPA4StaticMaker(model=MORSE)
MD = DPA4MDMaker(model=MORSE, n_steps=2, time_step=1.0)
DOUBLED = [[2, 0, 0], [0, 2, 0], [0, 0, 2]]


def phonon_flow(crystal: Structure) -> Flow:
    from atomate2.forcefields.flows.phonons import PhononMaker

    maker = PhononMaker(bulk_relax_maker=relaxing(), static_energy_maker=STATIC, phonon_displacement_maker=STATIC)
    return maker.make(crystal, supercell_matrix=DOUBLED)


def quasi_harmonic_flow(crystal: Structure) -> Flow:
    from atomate2.forcefields.flows.qha import ForceFieldQhaMaker

    from dpa4_flows.makers.phonon_flow import DPA4PhononMaker

    return ForceFieldQhaMaker(
        initial_relax_maker=relaxing(),
        eos_relax_maker=relaxing(relax_cell=False),
        phonon_maker=DPA4PhononMaker(model=MORSE, bulk_relax_maker=None),
        linear_strain=(-0.02, 0.02),
        number_of_frames=5,
    ).make(crystal, supercell_matrix=DOUBLED)


def gruneisen_flow(crystal: Structure) -> Flow:
    from atomate2.forcefields.flows.gruneisen import GruneisenMaker

    from dpa4_flows.makers.phonon_flow import DPA4PhononMaker

    return GruneisenMaker(
        bulk_relax_maker=relaxing(),
        const_vol_relax_maker=relaxing(relax_cell=False),
        phonon_maker=DPA4PhononMaker(model=MORSE, bulk_relax_maker=None, static_energy_maker=None, min_length=6.0),
        mesh=200,
    ).make(crystal)


FLOWS: dict[str, Callable[[Structure], Flow | Job]] = {
    "equation of state": lambda crystal: ForceFieldEosMaker(
        initial_relax_maker=relaxing(), eos_relax_maker=relaxing(relax_cell=False), static_maker=STATIC
    ).make(crystal),
    "equation of state in one job": lambda crystal: ForceFieldEosMaker(
        initial_relax_maker=relaxing(), eos_relax_maker=relaxing(relax_cell=False), socket=True
    ).make(crystal),
    "elastic": lambda crystal: ElasticMaker(
        bulk_relax_maker=relaxing(), elastic_relax_maker=relaxing(relax_cell=False)
    ).make(crystal),
    "elastic in one job": lambda crystal: DPA4ElasticMaker(model=MORSE, socket=True).make(crystal),
    "amorphous": lambda crystal: MPMorphMLFFMDMaker.from_temperature_and_steps(
        300, 2, 2, md_maker=MD, quench_maker=FastQuenchMLFFMDMaker(relaxing(), STATIC, relax_maker2=relaxing())
    ).make(crystal),
    "slow quench": lambda crystal: SlowQuenchMLFFMDMaker(
        md_maker=MD,
        quench_start_temperature=900,
        quench_end_temperature=300,
        quench_temperature_step=300,
        quench_n_steps=2,
    ).make(crystal),
}
SLOW_FLOWS = {"phonon": phonon_flow, "quasi-harmonic": quasi_harmonic_flow, "Grüneisen": gruneisen_flow}


@pytest.mark.parametrize("kind", [*FLOWS, *(pytest.param(kind, marks=pytest.mark.slow) for kind in SLOW_FLOWS)])
def test_flow_of_atomate2_computes_everything_with_our_model(kind: str, crystal: Structure, tmp_path: Path) -> None:
    flow = (FLOWS | SLOW_FLOWS)[kind](crystal)
    replies = run_local(flow, tmp_path)
    outputs = [reply.output for by_index in replies.values() for reply in by_index.values()]
    documents = [d for output in outputs for d in (output if isinstance(output, list) else [output])]
    names = [document.forcefield_name for document in documents if hasattr(document, "forcefield_name")]
    assert MORSE in names
    assert all(name == MORSE for name in names if isinstance(name, str))  # others are references to these
