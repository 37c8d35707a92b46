"""Files of models and checkpoints that are damaged or made to hurt: a sentence, or the model as it was stored."""

import json
import re
import resource
import time
import zipfile

import pytest
import torch
from file_mutations import damaged, rewritten
from oracle_data import ORACLE
from safetensors import safe_open
from safetensors.torch import save_file
from toy_training import ELEMENTS, base_file, configured, of_kind, recorded, tiny_model, toy_frames, write

import dpa4_core as dpa4
from dpa4_core.errors import DPA4Error
from dpa4_core.model.checkpoint import convert, read_model, write_model, write_official
from dpa4_core.model.committee import read_committee, write_committee
from dpa4_core.model.config import PRESETS, DPA4Config
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.model.info import ModelInfo
from dpa4_core.model.lora import add_adapters, merge_adapters
from dpa4_core.model.property import PropertyConfig, PropertyModel, read_property_model, write_property_model
from dpa4_core.model.sealed import digest_of, read_sealed, sealed_bytes
from dpa4_core.model.shapes import expected_shapes
from dpa4_core.strict import build
from dpa4_core.train.checkpoint import check_state, latest_state, previous_of, read_state
from dpa4_core.train.counters import Counters
from dpa4_core.train.trainer import train

SMALL = {"message_node": False, "readout": "none", "ffn_hidden": 4, "fitting_hidden": (4,), "channels": 4}
EXCEPTIONS = re.compile(r"[A-Z]\w*(Error|Exception)\b|Traceback|<class|\bPy[A-Z]")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model in both formats, a property model and the checkpoint of a run, all tiny."""
    folder = tmp_path_factory.mktemp("models")
    own = base_file(folder, **SMALL)
    model, info = read_model(own, dtype=None)
    write_official(model, info, folder / "base.pt")
    write_property_model(PropertyModel(tiny_model(1, **SMALL), PropertyConfig("gap")), info, folder / "gap.dpa4")
    write_committee([own, adapted_file(folder, own)], folder / "two.dpa4", base=own)
    data = write(folder, toy_frames(6))
    small = {f"model__{key}": list(value) if isinstance(value, tuple) else value for key, value in SMALL.items()}
    train(configured(data, folder / "run", run__steps=1, run__dtype="float32", **small))
    return folder


def adapted_file(folder, base):
    """A model that differs from its base by adapters of rank 1, in a file."""
    model, info = read_model(base, dtype=None)
    add_adapters(model, 1, 1.0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("up"):
                parameter.add_(0.1)
    merge_adapters(model)
    return write_model(model, info, folder / "adapted.dpa4")


def flat(members):
    """Weights of each member by names that differ."""
    return {
        f"{k} {name} {part}": tensor
        for k, member in enumerate(members)
        for name, value in member.items()
        for part, tensor in enumerate(value if isinstance(value, tuple) else (value,))
    }


def state_of(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


READERS = {
    "base.dpa4": lambda path: (lambda model: (state_of(model), model.config))(read_model(path, dtype=None)[0]),
    "base.pt": lambda path: (lambda model: (state_of(model), model.config))(read_model(path, dtype=None)[0]),
    "two.dpa4": lambda path: (lambda read: ({**state_of(read[0]), **flat(read[1])}, read[0].config))(
        read_committee(path, dtype=None)
    ),
    "gap.dpa4": lambda path: (lambda model: (state_of(model), model.config))(read_property_model(path, dtype=None)[0]),
    "run/checkpoint.safetensors": lambda path: (lambda state: (state.tensors, state.values))(checked_state(path)),
}


def checked_state(path):
    state = read_state(path)
    check_state(state, path)
    return state


def same(one, other):
    (tensors, config), (expected, original) = one, other
    return (
        config == original
        and tensors.keys() == expected.keys()
        and all(
            tensor.dtype == expected[name].dtype and torch.equal(tensor, expected[name])
            for name, tensor in tensors.items()
        )
    )


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def refused(read, path):
    """What was read, or the sentence; nothing else may happen, and it may not take long."""
    began = time.monotonic()
    try:
        return read(path), None
    except DPA4Error as error:
        sentence = str(error)
        assert not EXCEPTIONS.search(sentence) and "\n" not in sentence and len(sentence) < 1500, sentence
        return None, sentence
    finally:
        assert time.monotonic() - began < 30


@pytest.mark.parametrize("name", READERS)
def test_no_damage_goes_unseen(name, files, tmp_path):
    read = READERS[name]
    original, path = read(files / name), tmp_path / "file"
    before, n_refused = peak_mb(), 0
    for what, content in damaged((files / name).read_bytes(), 140, seed=len(name)):
        path.write_bytes(content)
        found, sentence = refused(read, path)
        assert sentence is not None or same(found, original), f"{what}: another model, without a word"
        n_refused += sentence is not None
    assert n_refused > 100 and peak_mb() - before < 300


@pytest.mark.parametrize("name", READERS)
def test_no_configuration_hurts(name, files, tmp_path):
    """Options that make no sense, in files that are whole: digests and checksums are right."""
    read, path = READERS[name], tmp_path / "file"
    before, n_refused, n = peak_mb(), 0, 100
    for what, content in altered(files / name, n, tmp_path):
        path.write_bytes(content)
        found, sentence = refused(read, path)
        assert (found is None) != (sentence is None), what
        n_refused += sentence is not None
    assert n_refused > n / 3 and peak_mb() - before < 300


def altered(path, n, folder):
    """``path`` with other options, sealed anew."""
    if path.suffix == ".pt":
        content = torch.load(path, weights_only=True)
        for what, params in rewritten(content["model"]["_extra_state"], n, seed=1):
            torch.save({"model": content["model"] | {"_extra_state": params}}, folder / "altered")
            yield what, (folder / "altered").read_bytes()
        return
    texts, tensors, _ = read_sealed(path, "")
    key = "values" if "values" in texts else "head" if "head" in texts else "config"
    options = json.loads(texts[key])
    config = {"config": options.pop("config")} if key == "values" else {}  # compared with that of the run that goes on
    for what, changed in rewritten(options, n, seed=2):
        yield what, sealed_bytes(texts | {key: json.dumps(config | changed)}, tensors)


@pytest.mark.parametrize("kind", ["lora", "conditioned", "zbl", *PRESETS])
def test_shapes_are_known_without_building(kind):
    changes = {
        "lora": {},
        "conditioned": {"charge_spin": (0, 1), "n_blocks": 4},
        "zbl": {"bridge": {"inner": 0.5, "outer": 0.8}, "radial": {"basis": "gaussian"}},
    }
    if kind in changes:
        config = DPA4Config.from_dict(DPA4Config.preset("mini", channels=8).to_dict() | changes[kind])
    else:
        config = DPA4Config.preset(kind, elements=("H", "O"), channels=4)
    assert expected_shapes(config) == {name: tensor.shape for name, tensor in DPA4(config).state_dict().items()}
    head = PropertyConfig("gap", hidden=(3, 0))
    around = expected_shapes(config, lambda model: PropertyModel(model, head))
    assert around == {name: t.shape for name, t in PropertyModel(DPA4(config), head).state_dict().items()}


def test_a_configuration_that_asks_for_terabytes_is_refused_before_it_gets_them(files, tmp_path):
    texts, tensors, _ = read_sealed(files / "base.dpa4", "")
    before = peak_mb()
    largest = {"channels": 2048, "lmax": 10, "n_blocks": 32, "mixing_layers": 32, "n_focus": 32, "mixer_rank": 1}
    config = json.dumps(json.loads(texts["config"]) | largest)
    (tmp_path / "a.dpa4").write_bytes(sealed_bytes(texts | {"config": config}, tensors))
    with pytest.raises(DPA4Error, match=r"a\.dpa4 (has missing or unknown tensors|has shape)"):
        dpa4.load(tmp_path / "a.dpa4")
    assert peak_mb() - before < 300


@pytest.mark.parametrize(
    "change, match",
    [
        ({"channels": 10**9}, "channels must be at most 2048, got 1000000000"),
        ({"channels": 32.0}, "channels: expected a whole number, got 32.0"),
        ({"cutoff": 1e4}, "cutoff must be at most 20, got 10000"),
        ({"cutoff": float("nan")}, "cutoff: expected a number, got nan"),
        ({"chanels": 3}, "unknown key 'chanels'; did you mean 'channels'"),
        ({"elements": ["Mg", "Xx"]}, r"distinct chemical symbols, got \['Xx'\]"),
        ({"radial": {"n_radial": -1}}, "n_radial must be at least 1, got -1"),
        ({"n_blocks": 64, "lmax": 10, "mixer_rank": 4}, "tables of more than"),
    ],
)
def test_options_out_of_bounds_are_named_with_file_and_value(files, tmp_path, change, match):
    texts, tensors, _ = read_sealed(files / "base.dpa4", "")
    config = json.dumps(json.loads(texts["config"]) | change)
    (tmp_path / "a.dpa4").write_bytes(sealed_bytes(texts | {"config": config}, tensors))
    with pytest.raises(DPA4Error, match=rf"a\.dpa4.*{match}"):
        dpa4.load(tmp_path / "a.dpa4")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(files, tmp_path, value):
    model, info = read_model(files / "base.dpa4", dtype=None)
    with torch.no_grad():
        model.film.edge_1[0, 0] = value
    for suffix in ("dpa4", "pt"):
        path = tmp_path / f"a.{suffix}"
        dpa4.save(dpa4.Potential(model, info), path) if suffix == "dpa4" else write_official(model, info, path)
        with pytest.raises(DPA4Error, match="holds values that are not finite"):
            dpa4.load(path)


@pytest.mark.parametrize(
    "content, match",
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "is a web page; download the file itself"),
        (b"\n  <html lang='en'>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 4600000\n", "git-lfs pointer.*git lfs pull"),
        (b"Hello, this is my model", "is a text, not a model"),
        (b"\x1f\x8b\x08\x00" + bytes(50), "compressed with gzip; unpack it"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"),
        (b"\x93NUMPY" + bytes(range(256)), "damaged or not a torch checkpoint"),
        (b"\x80\x02cos\nsystem\n", "refused for safety"),
        (bytes([255] * 7 + [0]) + b"{" + bytes(50), "is damaged"),
    ],
)
def test_other_files_are_named_for_what_they_are(tmp_path, content, match):
    for name in ("m.pt", "m.dpa4"):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DPA4Error, match=match):
            dpa4.load(path)
        with pytest.raises(DPA4Error, match=match):
            read_property_model(path)


def test_archives_that_unpack_to_more_than_they_are_never_unpacked(tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\x80\x02.")
        archive.writestr("bomb/data/0", bytes(50_000_000))
    before = peak_mb()
    with pytest.raises(DPA4Error, match=r"bomb\.pt is a packed archive"):
        dpa4.load(path)
    with zipfile.ZipFile(tmp_path / "words.pt", "w") as archive:
        archive.writestr("words.txt", "hello")
    with pytest.raises(DPA4Error, match="zip archive but not a torch checkpoint"):
        dpa4.load(tmp_path / "words.pt")
    assert peak_mb() - before < 40


def test_tensors_larger_than_their_data_are_refused(files, tmp_path):
    content = torch.load(files / "base.pt", weights_only=True)
    content["model"]["model.Default.wide"] = torch.zeros(1).expand(10**6, 10**6)
    torch.save(content, tmp_path / "wide.pt")
    with pytest.raises(DPA4Error, match="larger than its data"):
        dpa4.load(tmp_path / "wide.pt")


def test_the_digest_knows_names_types_shapes_and_bytes():
    texts, tensors = {"a": "1"}, {"w": torch.arange(6.0).view(2, 3), "n": torch.tensor(3)}
    reference = digest_of(texts, tensors)
    assert digest_of(dict(reversed(texts.items())), dict(reversed(tensors.items()))) == reference
    changed = [
        digest_of({"a": "2"}, tensors),
        digest_of(texts, tensors | {"w": tensors["w"].view(3, 2)}),
        digest_of(texts, tensors | {"w": tensors["w"].view(torch.int32)}),
        digest_of(texts, {"v": tensors["w"], "n": tensors["n"]}),
        digest_of(texts, tensors | {"w": tensors["w"] + 1e-7}),
    ]
    assert len({reference, *changed}) == 6
    odd = {"one": torch.zeros(1, dtype=torch.int64).as_strided((1,), (0,)), "none": torch.zeros(0)}
    assert digest_of({}, odd) == digest_of({}, {"one": torch.tensor([0]), "none": torch.zeros(0)})
    assert digest_of({}, {"t": torch.eye(3).T[1:].to(torch.bfloat16)}) != digest_of({}, odd)


# ---- versions


@pytest.mark.parametrize("version", [1, 2])
def test_each_version_of_our_format_stays_readable(version, tmp_path):
    """The first had no digest; a file that is written again has one."""
    model, info = read_model(ORACLE / f"own_v{version}.dpa4", dtype=None)
    expected, _ = read_model(ORACLE / "tiny" / "nano_like.pt", dtype=None)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))
    assert info.elements == (1, 6, 8, 14, 29)
    with safe_open(convert(ORACLE / f"own_v{version}.dpa4", tmp_path / "new.dpa4"), framework="pt") as handle:
        assert handle.metadata()["format_version"] == "2" and len(handle.metadata()["digest"]) == 64


@pytest.mark.parametrize("version", [1, 2, 3])
def test_each_version_of_the_training_checkpoint_stays_readable(version):
    state = checked_state(ORACLE / f"training_v{version}.safetensors")
    counters = build(Counters, state.values["counters"], "")
    assert (counters.step, counters.epoch, counters.n_skipped, round(counters.best, 3)) == (2, 1, 0, 46.211)
    assert counters.best_errors["force_mae"] > 0 and "model/species.table" in state.tensors


def test_a_file_of_this_version_without_a_digest_is_refused(files, tmp_path):
    texts, tensors, _ = read_sealed(files / "base.dpa4", "")
    save_file(tensors, tmp_path / "a.dpa4", metadata=texts)
    with pytest.raises(DPA4Error, match=r"a\.dpa4 lacks the digest"):
        dpa4.load(tmp_path / "a.dpa4")


# ---- training goes on


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(tmp_path):
    data = write(tmp_path, toy_frames(12))
    config = configured(data, tmp_path / "run", run__validate_every=5, run__steps=15)
    whole = configured(data, tmp_path / "whole", run__validate_every=5, run__steps=15)
    train(whole)
    train(config)
    path = tmp_path / "run" / "checkpoint.safetensors"
    content = bytearray(path.read_bytes())
    content[-1000] ^= 4
    path.write_bytes(content)
    assert latest_state(path).path == previous_of(path)
    result, records = recorded(config)
    (told,) = of_kind(records, "damaged")
    assert "does not match the digest" in told["why"] and told["step"] == 10 and result.step == 15
    ends = [read_state(tmp_path / name / "checkpoint.safetensors").tensors for name in ("run", "whole")]
    assert all(torch.equal(ends[0][name], tensor) for name, tensor in ends[1].items())

    path.write_bytes(content)
    previous_of(path).write_bytes(b"")
    with pytest.raises(DPA4Error, match=r"checkpoint\.safetensors is damaged .*delete it to start the run again"):
        train(config)
    path.unlink()
    previous_of(path).unlink()


def test_elements_of_the_card_are_elements(files, tmp_path):
    texts, tensors, _ = read_sealed(files / "base.dpa4", "")
    card = json.loads(texts["info"])
    for change, match in (({"elements": [200]}, "must be at most 118"), ({"colour": "red"}, "unknown key 'colour'")):
        content = sealed_bytes(texts | {"info": json.dumps(card | change)}, tensors)
        (tmp_path / "a.dpa4").write_bytes(content)
        with pytest.raises(DPA4Error, match=match):
            dpa4.load(tmp_path / "a.dpa4")
    assert ModelInfo(elements=tuple(range(1, len(ELEMENTS)))).n_parameters == 0
