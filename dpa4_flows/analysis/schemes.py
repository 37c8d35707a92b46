"""Which correction schemes there are: the published ones, and refits, each of which belongs to one model.

A refit is a YAML file in the layout of pymatgen's ``MP2020Compatibility.yaml`` with the model it was fitted to:

    Name: refit:4f2a81c09b7d
    Model: {name: dpa4-neo, sha256: ..., level_of_theory: ...}
    Corrections: {GGAUMixingCorrections: {O: {Co: -1.9}, F: {Co: -1.9}}, CompositionCorrections: {oxide: -0.66}}
    Uncertainties: (as Corrections; standard errors)
    Fit: {base: OMat24, n_compounds: 99, ...}

The name is a hash of the numbers and of the model, so that energies of two refits never meet. A scheme is asked for by
the path of its file, or by name once the file lies in the cache folder (`refit_folder`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from dpa4_core.digests import digest
from dpa4_core.files import write_bytes
from dpa4_core.model.registry import cache_dir

PUBLISHED: tuple[str, ...] = ("none", "MP2020", "OMat24")
REFIT = "refit:"

_OMAT24_FILE = Path(__file__).parents[1] / "data" / "corrections" / "OMat24.yaml"
_HASH_DIGITS = 12
_SUFFIXES = (".yaml", ".yml")


class SchemeError(ValueError):
    """A correction scheme that does not exist or cannot be read; one sentence."""


@dataclass(frozen=True)
class Scheme:
    """A correction scheme that can be applied.

    Attributes:
        name: as energy frames carry it: none, MP2020, OMat24 or refit:<hash>.
        file: numbers, in pymatgen's layout; None for those that pymatgen has, or for none.
        model_sha256: the only model it may be applied to; empty for a published scheme.
    """

    name: str
    file: Path | None = None
    model_sha256: str = ""


def find_scheme(scheme: str) -> Scheme:
    """The scheme of that name or in that file.

    Args:
        scheme: one of PUBLISHED, ``refit:<hash>``, or the path of a refit.

    Raises:
        SchemeError: there is none, or its file was changed by hand.
    """
    if scheme in PUBLISHED:
        return Scheme(scheme, _OMAT24_FILE if scheme == "OMat24" else None)
    if scheme.startswith(REFIT):
        path = refit_path(scheme)
        if not path.is_file():
            raise SchemeError(f"{scheme} is not in {path.parent}; give the path of its file instead")
    elif scheme.endswith(_SUFFIXES):
        path = Path(scheme).expanduser()
        if not path.is_file():
            raise SchemeError(f"there is no file {scheme}; `dpa4 validate thermo --refit {path.name}` makes one")
    else:
        raise SchemeError(
            f"unknown correction scheme {scheme!r}; choose from {', '.join(PUBLISHED)}, or the .yaml file of a refit"
        )
    return _read(path.resolve(), path.stat().st_mtime_ns)


def scheme_name(scheme: str) -> str:
    """Name of a scheme that was given by name or as a file; a file is copied to the cache, so that the name is enough
    from then on.
    """
    found = find_scheme(scheme)
    if found.model_sha256 and found.file is not None and not (path := refit_path(found.name)).is_file():
        write_bytes(path, found.file.read_bytes())
    return found.name


def refit_folder() -> Path:
    """Where refits are found by name."""
    return cache_dir() / "corrections"


def refit_path(name: str) -> Path:
    """Where the refit ``refit:<hash>`` lies if it was put in the cache."""
    return refit_folder() / f"refit-{name.removeprefix(REFIT)}.yaml"


def refit_name(content: dict[str, Any]) -> str:
    """``refit:<hash>`` over the numbers of a refit and the model that it belongs to."""
    parts = content["Model"]["sha256"], content["Corrections"], content["Uncertainties"]
    return REFIT + digest(*parts)[:_HASH_DIGITS]


def read_refit(path: Path) -> dict[str, Any]:
    """Content of the file of a refit.

    Raises:
        SchemeError: it is no refit, or its numbers are not those that its name stands for.
    """
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        name, expected = content["Name"], refit_name(content)
    except (YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise SchemeError(f"{path} is not a correction scheme that `dpa4 validate thermo --refit` wrote") from error
    if name != expected:
        raise SchemeError(f"the numbers in {path} are not those of {name}: fit again instead of editing the file")
    return dict(content)


@lru_cache(maxsize=64)
def _read(path: Path, _changed: int) -> Scheme:
    content = read_refit(path)
    return Scheme(content["Name"], path, content["Model"]["sha256"])
