"""The serialisable handle of a model; in every process it leads to one loaded potential."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from ase.calculators.calculator import Calculator
from monty.json import MSONable

from dpa4_core.ase_potential import ASEPotential
from dpa4_core.errors import DPA4Error
from dpa4_core.loaded import as_potential
from dpa4_core.model.info import ModelInfo
from dpa4_core.model.registry import REGISTRY, is_cached, lookup, split_branch
from dpa4_core.potential import PotentialLike
from dpa4_core.properties import PropertyPredictor, is_property_model, load_property
from dpa4_core.terms import SumPotential, card_with_dispersion

_FILE_SUFFIXES = (".pt", ".dpa4", ".safetensors")
_imported: dict[str, PotentialLike] = {}
_lock = threading.Lock()


class ModelRefError(DPA4Error):
    """The model cannot be had as asked; one sentence."""


@dataclass(frozen=True)
class ModelRef(MSONable):
    """Which potential to compute with: a value that fits into a job, a FireWorks spec or a TOML file.

    Args:
        name: registry name (``"dpa4-neo"``), path of a ``.pt`` or ``.dpa4`` file, or
            ``"package.module:callable"``, a callable without arguments that returns a `PotentialLike` or an
            ASE calculator.
        sha256: checksum that the model must have; None accepts any. For an import path it is the checksum of
            the text.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ... or ``"auto"``: CUDA where there is one. Not part of
            the identity.
        dtype: ``"float32"`` or ``"float64"``; does not change import paths.
        compile: ``"auto"``, True or False, see `dpa4_core.load`. Not part of the identity.
        dispersion: name of what is added for dispersion, ``"d3bj-pbe"``, or None. The checksum is then that of both
            together, `dpa4_core.terms.checksum_with_dispersion`.
    """

    name: str = "dpa4-neo"
    sha256: str | None = None
    device: str = "auto"
    dtype: str = "float32"
    compile: bool | str = "auto"
    dispersion: str | None = None

    @property
    def title(self) -> str:
        """The name, with the dispersion, for the reader."""
        return self.name if self.dispersion is None else f"{self.name} + {self.dispersion}"

    @property
    def is_file(self) -> bool:
        """Whether the name is a path, which may end in ``#BRANCH``; the file need not be here."""
        if self.name in REGISTRY or self.name.startswith("hub:"):
            return False
        path, _ = split_branch(self.name)
        return path.suffix in _FILE_SUFFIXES or path.is_file() or (":" not in self.name and len(path.parts) > 1)

    @property
    def is_import(self) -> bool:
        """Whether the name is ``"package.module:callable"``."""
        return ":" in self.name and not self.name.startswith("hub:") and not self.is_file

    @property
    def not_here(self) -> str | None:
        """What to say before a model is fetched, of which nothing is known until then; None of any other."""
        published = self.name in REGISTRY or self.name.startswith("hub:")
        if not published or is_cached(self.name):
            return None
        return f"model {self.name} is not in the cache: its elements were not checked, and it will be fetched"

    def load(self) -> PotentialLike:  # type: ignore[override]  # MSONable.load reads a JSON file instead
        """The potential; loaded once per process, identity, device and dtype.

        Raises:
            DPA4Error: no such model, a checksum that is not as asked, or an import path that leads to no
                potential.
        """
        device = "cuda" if self.device == "auto" and torch.cuda.is_available() else self.device.replace("auto", "cpu")
        if self.is_import:
            with _lock:
                if self.name not in _imported:
                    _imported[self.name] = _import_potential(self.name)
                potential = _imported[self.name]
        else:
            potential = as_potential(self.name, device, self.dtype, self.compile)
        self._check(self._card(potential).sha256)
        return potential if self.dispersion is None else as_potential(potential, dispersion=self.dispersion)

    def _check(self, found: str) -> None:
        if self.sha256 is not None and self.sha256 != found:
            raise ModelRefError(
                f"model {self.title} has sha256 {found[:12]}…, not {self.sha256[:12]}… as asked: "
                "use the file that was meant or drop sha256"
            )

    def located(self) -> ModelRef:
        """The same model, with the absolute path of a file that is here, so that a job in another folder finds it.
        Loads nothing.

        Raises:
            DPA4Error: a name that is neither a path nor that of a published model.
        """
        if not self.is_file:
            if not self.is_import:
                lookup(self.name)
            return self
        path, branch = split_branch(self.name)
        return dataclasses.replace(self, name=_absolute(path, branch)) if path.is_file() else self

    def resolve(self) -> ModelRef:
        """The same model with its checksum filled in and, for a file, with the absolute path: what a job in
        another folder or process needs to find exactly this model. Loads the model.
        """
        return dataclasses.replace(self.located(), sha256=self.info().sha256)

    def head(self) -> PropertyPredictor | None:
        """The property model behind the name; None for a potential.

        Raises:
            DPA4Error: a property model with another checksum than asked.
        """
        path = Path(self.name).expanduser()
        if not (self.is_file and is_property_model(path)):
            return None
        status = path.stat()
        found = _loaded_head(str(path.resolve()), status.st_mtime_ns, status.st_size, self.device, self.dtype)
        self._check(found.info.sha256)
        return found

    def info(self) -> ModelInfo:
        """Identity card of the model: checksum, level of theory, corrections, elements. Loads the model."""
        head = self.head()
        if head is not None:
            return head.info
        potential = self.load()
        return self._card(potential.base if isinstance(potential, SumPotential) else potential)

    def _card(self, potential: PotentialLike) -> ModelInfo:
        """The card of ``potential``, which has no dispersion, with that of this model."""
        info = _info(self.name, potential)
        return info if self.dispersion is None else card_with_dispersion(info, self.dispersion)


@lru_cache(maxsize=8)
def _loaded_head(path: str, written: int, size: int, device: str, dtype: str) -> PropertyPredictor:
    """The property model of a file as it was written last."""
    return load_property(path, device, dtype)


def _absolute(path: Path, branch: str | None) -> str:
    return f"{path.resolve()}#{branch}" if branch else str(path.resolve())


def _info(name: str, potential: PotentialLike) -> ModelInfo:
    info = getattr(potential, "info", None)
    if isinstance(info, ModelInfo) and info.sha256:
        return info
    info = info if isinstance(info, ModelInfo) else ModelInfo(level_of_theory="none (toy potential)")
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    return dataclasses.replace(info, name=name, sha256=sha256, elements=tuple(sorted(potential.elements)))


def _import_potential(name: str) -> PotentialLike:
    module_name, _, attribute = name.partition(":")
    try:
        factory: Any = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ModelRefError(f"{name!r} cannot be imported ({error}): expected package.module:callable") from error
    made = factory()
    if isinstance(made, Calculator):
        return ASEPotential(made)
    if isinstance(made, PotentialLike):
        return made
    raise ModelRefError(
        f"{name} returned a {type(made).__name__}: expected an ASE calculator or an object with cutoff, "
        "device, elements and compute(graph)"
    )
