"""From a name or a file to a potential; a model named twice is loaded once in a process."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import overload

import torch
from ase.calculators.calculator import Calculator

from dpa4_core.ase_potential import ASEPotential
from dpa4_core.committee import Committee, committee_of
from dpa4_core.errors import DPA4Error
from dpa4_core.memory import keep_freed_memory
from dpa4_core.model.checkpoint import kind_of, read_model, write_model
from dpa4_core.model.committee import FORMAT, read_committee
from dpa4_core.model.registry import resolve
from dpa4_core.potential import DTYPES, Potential, PotentialLike
from dpa4_core.terms import SumPotential, with_dispersion

_potentials: dict[tuple[str, str, str, bool | str], tuple[tuple[int, int], PotentialLike]] = {}
"""By name, device, dtype and compilation, with time of writing and size of the file."""
_dispersed: weakref.WeakValueDictionary[tuple[int, str], SumPotential] = weakref.WeakValueDictionary()
"""By the potential without dispersion, which they keep, and the name of the dispersion; as long as somebody uses it."""
_lock = threading.Lock()


def as_potential(
    potential: PotentialLike | Calculator | str | Path,
    device: str = "cpu",
    dtype: str = "float32",
    compile: bool | str = "auto",
    dispersion: str | None = None,
) -> PotentialLike:
    """``potential`` itself, or the one of that registry name or file, shared within the process.

    A file that was written again since it was loaded is loaded again and takes the place of the old one.

    Args:
        potential: an object with ``cutoff``, ``device``, ``elements`` and ``compute``, an ASE calculator, a name,
            or a path (``FILE#BRANCH`` for a checkpoint with several branches).
        device: where to load to; ignored for an object.
        dtype: "float32" or "float64"; ignored for an object.
        compile: see `load`; ignored for an object.
        dispersion: see `load`; also added to an object.

    Raises:
        DPA4Error: none of these, or a model that cannot be loaded.
    """
    if dispersion is not None:
        base = as_potential(potential, device, dtype, compile)
        with _lock:
            both = _dispersed.get((id(base), dispersion))
            if both is None:
                both = _dispersed[id(base), dispersion] = with_dispersion(base, dispersion)
            return both
    if not isinstance(potential, str | Path):
        return _of_object(potential)
    name, mark, branch = str(potential).partition("#")
    file = Path(name).expanduser()
    written, source, where = (0, 0), potential, str(potential)
    if file.is_file():
        status = file.stat()
        written = (status.st_mtime_ns, status.st_size)
        source, where = Path(f"{file}{mark}{branch}"), f"{file.resolve()}{mark}{branch}"
    with _lock:
        key = (where, device, dtype, compile)
        loaded = _potentials.get(key)
        if loaded is None or loaded[0] != written:
            loaded = _potentials[key] = (written, load(source, device=device, dtype=dtype, compile=compile))
        return loaded[1]


def _of_object(candidate: object) -> PotentialLike:
    if isinstance(candidate, Calculator):
        inner = getattr(candidate, "potential", None)  # of DPA4Calculator, which computes one structure at a time
        return inner if isinstance(inner, PotentialLike) else ASEPotential(candidate)
    if isinstance(candidate, PotentialLike):
        return candidate
    raise DPA4Error(
        f"{type(candidate).__name__} is no potential; pass a name, a path, an ASE calculator, or an object with "
        "cutoff, device, elements and compute(graph)"
    )


def _device(device: str | torch.device) -> torch.device:
    """A device that exists here; "auto" is CUDA when there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise DPA4Error(f"unknown device {device!r}; use 'cpu', 'cuda', 'cuda:1' or 'auto'") from error
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise DPA4Error(f"device {device!r} was asked for but torch sees {count} CUDA devices; use device='cpu'")
    if place.type not in ("cpu", "cuda"):  # forces are computed in float64, which MPS lacks
        raise DPA4Error(f"device {device!r} is not supported; use 'cpu' or 'cuda'")
    return place


def place_and_precision(device: str | torch.device, dtype: str) -> tuple[torch.device, torch.dtype]:
    """What the names given to `load` mean here.

    Raises:
        DPA4Error: unknown device or dtype, or a device that is not there.
    """
    if dtype not in DTYPES:
        raise DPA4Error(f"unknown dtype {dtype!r}; choose from {', '.join(DTYPES)}")
    return _device(device), DTYPES[dtype]


@overload
def load(
    name_or_path: str | Path,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    *,
    compile: bool | str = "auto",
    dispersion: None = None,
) -> Potential | Committee: ...
@overload
def load(
    name_or_path: str | Path,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    *,
    compile: bool | str = "auto",
    dispersion: str | None,
) -> Potential | Committee | SumPotential: ...
def load(
    name_or_path: str | Path,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    *,
    compile: bool | str = "auto",
    dispersion: str | None = None,
) -> Potential | Committee | SumPotential:
    """Load a potential by registry name, official ``.pt`` file or our own ``.dpa4`` file, which may be a committee.

    A registry name is fetched on first use, checked against its SHA-256 and found in the cache afterwards. On a CPU the
    process keeps the memory that it frees from then on (`keep_freed_memory`), unless DPA4_KEEP_MEMORY=0.

    Args:
        device: "cpu", "cuda", "cuda:1", or "auto" for CUDA when there is one.
        dtype: "float32" (default) or "float64" for tests and tight phonons.
        compile: "auto" compiles the network on a GPU once it was called a hundred times; True at once, on a CPU too,
            where the tiles of the default are faster; False never. Compiled and not agree to float32 rounding.
        dispersion: "d3bj-pbe" adds D3(BJ) as fitted to PBE; "d3bj-pbesol", "d3bj-r2scan"; see docs/dispersion.md.

    Raises:
        DPA4Error: unknown name, missing, damaged or refused file, unknown device, dtype or dispersion, or a dispersion
            of another functional than the model's.
    """
    if dispersion is not None:
        return with_dispersion(load(name_or_path, device, dtype, compile=compile), dispersion)
    place, precision = place_and_precision(device, dtype)
    path, entry = resolve(name_or_path)
    if place.type == "cpu":
        keep_freed_memory()
    if kind_of(path) == FORMAT:
        return committee_of(*read_committee(path, precision), place, compile=compile)
    model, info = read_model(path, dtype=precision, entry=entry)
    return Potential(model.eval().requires_grad_(False), info, place, compile=compile, fixed=True)


def save(potential: Potential, path: str | Path) -> Path:
    """Write our own format: configuration, tensors and version in one safetensors file, no pickled code.

    Raises:
        DPA4Error: a name that ends in .pt, the suffix of official checkpoints; `dpa4_core.convert` writes those. Or
            a potential with dispersion, which is added when a file is loaded.
    """
    if isinstance(potential, SumPotential):
        raise DPA4Error(f"{path} would hold the network alone: save the potential without dispersion, add it in load")
    if Path(path).suffix == ".pt":
        raise DPA4Error(
            f"{path} would look like an official checkpoint; end the name in .dpa4, then use `dpa4 convert`"
        )
    return write_model(potential.model, potential.info, Path(path))
