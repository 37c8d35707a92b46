"""Thousands of broken files through every reader, in processes that may die: what is left must be sentences.

Small healthy files of every format are damaged as disks, editors, converters and enemies do. A reader passes when it
ends in time and in bounded memory, raises nothing but its own error, and every name and sentence that leaves it is one
line of plain English that can be stored. `benchmarks/fuzz.py` prints the figures.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import re
import select
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HANG_S = 30.0
"""Of the processor, so that a busy machine changes no verdict; and `_LONGEST_S` by the clock, if it only waits."""
_LONGEST_S = 120.0
MOST_MEMORY = 500 * 2**20
_ABORT = 2 * MOST_MEMORY  # where the process is ended, before it takes the machine with it
_JUDGED = 5000  # sentences of one file; a bomb may give a million that are alike
_PACKERS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    ".gz": (gzip.compress, gzip.decompress),
    ".bz2": (bz2.compress, bz2.decompress),
    ".xz": (lzma.compress, lzma.decompress),
}
_FORBIDDEN = re.compile(
    r"Traceback|\b[A-Za-z.]*(Error|Exception|Warning)\b|NoneType|<class|object at 0x|\bnumpy\b|\bndarray\b|codec can't|"
    r"\bdtype\b|unhashable|subscriptable|positional argument|list ind|not iterable|unpack \(|invalid literal|float\(\)"
)
"""What no sentence for a materials scientist holds: names of exceptions and words of a programming language."""
_NUMBER = re.compile(rb"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")
_HOSTILE_NUMBERS = (
    *(b"-1", b"0", b"1e999", b"-1e999", b"nan", b"inf", b"NaN", b"Infinity", b"1e308", b"1e-320", b"0x10"),
    *(b"99999999999", b"9" * 400, b"1_000", b"1000000000", b"65536", b"2147483648", b"-9223372036854775809"),
    *(b"zero", b"", b"1,5", b"1.0.0", b"true", b"null", b"[]", b"{}", b'"1"', b"\xd9\xa3", b"1+2j", b"?", b"."),
)


# ---- files --------------------------------------------------------------------------------------------------------


def write_seeds(folder: Path) -> list[Path]:
    """One small healthy file for each format, and for each way of packing it."""
    import ase.db
    import ase.io
    from ase.build import bulk, molecule
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.constraints import FixAtoms
    from labelled_files import WRITERS, toy_frames
    from pymatgen.core import Lattice, Structure
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg2+", "O2-"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    salt.add_site_property("magmom", [0.5] * 8)
    salt.add_site_property("selective_dynamics", [[True, False, True]] * 8)
    plain = {
        "lattice": [[3, 0, 0], [0, 3, 0], [0, 0, 3]],
        "species": ["Cs", "Cl"],
        "frac_coords": [[0, 0, 0], [0.5] * 3],
    }
    rows = [{"id": f"row{i}", "tags": "a b", "formula": "CsCl", "structure": plain} for i in range(2)]
    entry = ComputedStructureEntry(salt, -12.0, correction=-0.5, entry_id="mp-1").as_dict()
    atoms = bulk("MgO", "rocksalt", a=4.2)
    atoms.set_constraint(FixAtoms([0]))
    atoms.info = {"charge": 0, "note": "some words", "matrix": [[1, 2], [3, 4]]}
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=[[0, 0, 0.1], [0, 0, -0.1]], stress=[0.0] * 6)
    folder.mkdir(parents=True, exist_ok=True)
    cif = salt.to(fmt="cif", symprec=0.01) + salt.to(fmt="cif").replace("data_", "data_second_")
    texts: dict[str, Any] = {
        "two.cif": cif,
        "CONTCAR": "",
        "salt.json": salt.as_dict(),
        "rows.json": rows,
        "named.json": {"a": plain, "b": salt.as_dict(verbosity=0)},
        "entries.json": {"entries": [entry, entry | {"entry_id": "mp-2"}]},
        "lines.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "plain.xyz": "3\nwater\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n" * 2,
    }
    for name, content in texts.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    ase.io.write(folder / "CONTCAR", atoms, format="vasp", direct=True)
    ase.io.write(folder / "full.extxyz", [atoms, molecule("H2O")])
    ase.io.write(folder / "frames.traj", [atoms, atoms])
    for name in ("base.db", "base.json"):
        with ase.db.connect(folder / name) as database:
            for i in range(2):
                database.write(atoms, name=f"x{i}", data={"array": [1.0, 2.0]})
    for name in ("two.cif", "plain.xyz", "rows.json", "CONTCAR", "lines.jsonl"):
        suffix = random.Random(name).choice(list(_PACKERS))
        (folder / f"{name}{suffix}").write_bytes(_PACKERS[suffix][0]((folder / name).read_bytes()))
    _pack(folder, ["two.cif", "CONTCAR", "full.extxyz", "rows.json", "plain.xyz.gz", "base.db"])
    for name in ("REF_ names", "aselmdb", "deepmd", "deepmd lmdb", "mptrj", "matpes", "vasprun", "outcar"):
        own = folder / f"labelled-{name.replace(' ', '-')}"
        own.mkdir()
        WRITERS[name](own, toy_frames()[:2])
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("-lock"))


def _pack(folder: Path, names: Sequence[str]) -> None:
    """The files as archives, and an archive in an archive."""
    names = [name for name in names if (folder / name).exists()]
    for suffix, mode in ((".tar", "w"), (".tar.gz", "w:gz"), (".tar.xz", "w:xz")):
        with tarfile.open(folder / f"set{suffix}", mode) as archive:
            for name in names:
                archive.add(folder / name, f"set/{name}", filter=_same_always)
    with zipfile.ZipFile(folder / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in [*names, "set.tar"]:
            archive.writestr(zipfile.ZipInfo(name), (folder / name).read_bytes())


def _same_always(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = 0
    return member


def broken_copies(seeds: Sequence[Path], root: Path, folder: Path, n_files: int, seed: int) -> Iterator[Path]:
    """``n_files`` damaged copies of the seeds, each in a folder of its own so that data sets stay together."""
    turns = random.Random(seed)
    for i in range(n_files):
        source = seeds[i % len(seeds)]
        place = folder / f"{i:06d}"
        place.mkdir()
        content = damaged(source.name, source.read_bytes(), turns)
        target = place / source.name
        top = source.relative_to(root).parts
        if "labelled-deepmd" in top[0] and source.suffix != ".lmdb":  # one broken file among the healthy ones
            for other in (root / top[0]).rglob("*"):
                if other.is_file():
                    copy = place / other.relative_to(root / top[0])
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    copy.write_bytes(other.read_bytes())
            target = place / source.relative_to(root / top[0])
        target.write_bytes(content)
        yield place


def damaged(name: str, content: bytes, turns: random.Random) -> bytes:
    """The content with one to three things wrong; what is packed is often damaged inside."""
    suffix = "." + name.rpartition(".")[2]
    if suffix in _PACKERS and turns.random() < 0.6:
        pack, unpack = _PACKERS[suffix]
        if turns.random() < 0.1:
            return pack(turns.choice([b" ", b"\n", b"[", b"1\n", b"0 "]) * 2**25)  # a bomb of 32 to 64 MiB
        return pack(_wrong(unpack(content), turns))
    if name.endswith((".tar", ".zip")) and turns.random() < 0.3:
        return _inner(name, content, turns)
    return _wrong(content, turns)


def _inner(name: str, content: bytes, turns: random.Random) -> bytes:
    """An archive one of whose members is damaged."""
    out = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
            for member in old.namelist():
                inner = old.read(member)
                new.writestr(zipfile.ZipInfo(member), damaged(member, inner, turns) if turns.random() < 0.4 else inner)
        return out.getvalue()
    with tarfile.open(fileobj=io.BytesIO(content)) as old, tarfile.open(fileobj=out, mode="w") as new:
        for member in old:
            stream = old.extractfile(member)
            inner = b"" if stream is None else stream.read()
            inner = damaged(member.name, inner, turns) if turns.random() < 0.4 else inner
            member.size = len(inner)
            new.addfile(member, io.BytesIO(inner))
    return out.getvalue()


def _wrong(content: bytes, turns: random.Random) -> bytes:
    is_text = b"\0" not in content[:4096]
    ways = [_flip, _cut, _lose, _repeat, _noise] + (_TEXT_WAYS * 2 if is_text else [])
    for _ in range(turns.choice((1, 1, 2, 3))):
        content = turns.choice(ways)(content, turns) if content else b"x"
    return content


def _place(content: bytes, turns: random.Random) -> int:
    return turns.randrange(len(content)) if turns.random() < 0.6 else turns.randrange(min(len(content), 200))


def _flip(content: bytes, turns: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(turns.choice((1, 1, 4, 30))):
        changed[_place(content, turns)] = turns.randrange(256)
    return bytes(changed)


def _cut(content: bytes, turns: random.Random) -> bytes:
    return content[: _place(content, turns)]


def _lose(content: bytes, turns: random.Random) -> bytes:
    start = _place(content, turns)
    return content[:start] + content[start + turns.randrange(1, 200) :]


def _repeat(content: bytes, turns: random.Random) -> bytes:
    start = _place(content, turns)
    part = content[start : start + turns.randrange(1, 400)]
    return content[:start] + part * turns.choice((2, 3, 200)) + content[start:]


def _noise(content: bytes, turns: random.Random) -> bytes:
    start, length = _place(content, turns), turns.randrange(1, 64)
    return content[:start] + turns.randbytes(length) + content[start + length :]


def _number(content: bytes, turns: random.Random) -> bytes:
    found = list(_NUMBER.finditer(content))
    if not found:
        return content
    chosen = turns.choice(found[:40] if turns.random() < 0.5 else found)
    return content[: chosen.start()] + turns.choice(_HOSTILE_NUMBERS) + content[chosen.end() :]


def _lines(content: bytes, turns: random.Random) -> bytes:
    lines = content.split(b"\n")
    i, j = turns.randrange(len(lines)), turns.randrange(len(lines))
    kind = turns.randrange(4)
    if kind == 0:
        lines[i], lines[j] = lines[j], lines[i]
    elif kind == 1:
        del lines[i]
    elif kind == 2:
        lines.insert(j, lines[i])
    else:
        lines[i] = lines[i] * 50
    return b"\n".join(lines)


def _words(content: bytes, turns: random.Random) -> bytes:
    """A word becomes another one of the file, or something that no file holds."""
    found = list(re.finditer(rb"[A-Za-z_@]{1,30}", content))
    if not found:
        return content
    chosen = turns.choice(found)
    others = (turns.choice(found)[0], b"Xx", b"D", b"@module", b"@class", b"\\ud800", b"__ndarray__", b"Wat", b"")
    return content[: chosen.start()] + turns.choice(others) + content[chosen.end() :]


def _deep(content: bytes, turns: random.Random) -> bytes:
    start, depth = _place(content, turns), turns.choice((90, 150, 2000, 100_000))
    opening, closing = turns.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"(", b")"), (b"<a>", b"</a>")))
    return content[:start] + opening * depth + b"1" + closing * depth + content[start:]


def _encoded(content: bytes, turns: random.Random) -> bytes:
    text = content.decode("utf-8", errors="replace")
    kind = turns.randrange(5)
    if kind == 0:
        return text.encode(turns.choice(("utf-16", "utf-32", "utf-16-le")))
    if kind == 1:
        return text.replace("a", "ä").encode("latin-1", errors="replace")
    if kind == 2:
        return b"\xef\xbb\xbf" + content
    if kind == 3:
        return content.replace(b"\n", turns.choice((b"\r\n", b"\r", b"\x0c", b"\xe2\x80\xa8")))
    return content.replace(b" ", b"\0", 3)


def _recipe(content: bytes, turns: random.Random) -> bytes:
    """A value of JSON becomes the recipe of an object, another kind of value, or vanishes."""
    try:
        value = json.loads(content)
        places = list(_places(value))
    except (ValueError, RecursionError):
        return _words(content, turns)
    if not places:
        return content
    holder, key = turns.choice(places)
    holder[key] = turns.choice(
        [
            {"@module": "this", "@class": "d"},
            {"@module": "pymatgen.core.structure", "@class": "Structure", "@version": None},
            {"__ndarray__": [[10**9], "float64", []]},
            *("text", "\ud800", None, True, 10**30, [], {}, [[]], [1] * 5000, float("nan"), {"a": {"b": []}}),
        ]
    )
    return json.dumps(value).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        yield from _places(item)


_TEXT_WAYS = [_number, _number, _number, _lines, _words, _words, _deep, _encoded, _recipe]


# ---- the process that reads ----------------------------------------------------------------------------------------


def read_as_ordered() -> None:
    """What a process of `fuzz` does: read what the lines of stdin name, one JSON line for each."""
    from dpa4_core.data.readers import iter_structures  # imports count for no file

    list(iter_structures(Path(__file__)))
    for line in sys.stdin:
        _forget_peak()
        before, start = _memory("VmRSS"), time.process_time()
        answer = _read(Path(line.rstrip("\n")))
        answer |= {"seconds": time.process_time() - start, "memory": max(0, _memory("VmHWM") - before)}
        print(json.dumps(answer), flush=True)


def _read(folder: Path) -> dict[str, Any]:
    import traceback

    from dpa4_core.data.frames import read_frames
    from dpa4_core.data.readers import iter_structures
    from dpa4_core.errors import DPA4Error
    from dpa4_flows.campaigns.candidates import read_candidates
    from dpa4_flows.reference.entries_file import read_entries
    from dpa4_flows.reference.library import load_phases

    entries, sentences, faults = 0, [], []
    names: list[str] = []

    def attempt(what: Callable[[], Any]) -> list[Any]:
        found: list[Any] = []
        try:
            found.extend(what())
        except (DPA4Error, ValueError) as error:  # our own kinds of ValueError; the sentence is judged below
            sentences.append(str(error))
            if type(error).__module__.partition(".")[0] not in ("dpa4_core", "dpa4_flows"):
                faults.append("".join(traceback.format_exception(error))[-1500:])
        except Exception as error:
            faults.append("".join(traceback.format_exception(error))[-1500:])
        return found

    for named in attempt(lambda: iter_structures(folder)):
        entries += 1
        names.append(named.name)
        sentences += [named.error] if named.error is not None else []
        sentences += list(named.warnings)
    for frame in attempt(lambda: read_frames(folder)):
        entries += 1
        names += [frame.name]
        sentences += [frame.error] if hasattr(frame, "error") else list(frame.left_out)
    for path in folder.glob("*.json"):
        candidates = attempt(lambda path=path: read_candidates([path]))
        sentences += [each.error for each in candidates if each.error is not None]
        attempt(lambda candidates=candidates: [each.model_dump_json().encode() for each in candidates])
        attempt(lambda path=path: load_phases([path]))
        attempt(lambda path=path: read_entries(path).values())
    faults += [f"this sentence is not plain: {text!r:.600}" for text in sentences[:_JUDGED] if not is_plain(text)]
    faults += [f"this name cannot be stored: {text!r:.400}" for text in names[:_JUDGED] if not is_storable(text)]
    if "this" in sys.modules:
        faults.append("a module was imported by its name in the file")
    return {"entries": entries, "sentences": len(sentences), "faults": faults}


def is_storable(text: Any) -> bool:
    """Whether it is one line of valid UTF-8 of bounded length."""
    if not isinstance(text, str) or len(text) > 6000 or "\0" in text or "\n" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_plain(text: Any) -> bool:
    """Whether it is a sentence for somebody who does not program."""
    return is_storable(text) and len(text) > 10 and not _FORBIDDEN.search(text)


def _forget_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _memory(what: str) -> int:
    """Bytes of this process, of Linux only; elsewhere 0, and the memory is not judged."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(what):
                return int(line.split()[1]) * 1024
    return 0


# ---- the figures ----------------------------------------------------------------------------------------------------


@dataclass
class Figures:
    """What came out."""

    files: int = 0
    entries: int = 0
    sentences: int = 0
    faults: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    peak_memory: int = 0
    greedy: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"files tried                {self.files}\nentries read or refused    {self.entries}\n"
            f"sentences                  {self.sentences}\ntracebacks, other words    {len(self.faults)}\n"
            f"hangs ({HANG_S:.0f} s)               {len(self.hangs)}\nprocesses that died        {len(self.deaths)}\n"
            f"longest processor time      {self.longest_s:.1f} s\n"
            f"largest memory of a file   {self.peak_memory / 2**20:.0f} MiB (limit {MOST_MEMORY // 2**20})"
        )

    @property
    def problems(self) -> list[str]:
        """Everything that must not happen."""
        return [*self.faults, *self.hangs, *self.deaths, *self.greedy]


def fuzz(n_files: int, seed: int = 0, keep: Path | None = None) -> Figures:
    """Damage ``n_files`` files and read them; files that made trouble are copied into ``keep``."""
    figures = Figures()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        seeds = write_seeds(root / "seeds")
        reader = _Reader()
        try:
            for place in broken_copies(seeds, root / "seeds", root, n_files, seed):
                problems = len(figures.problems)
                _judge(reader, place, figures)
                if keep is not None and len(figures.problems) > problems:
                    shutil.copytree(place, keep / f"{seed}-{place.name}", dirs_exist_ok=True)
        finally:
            reader.close()
    return figures


def _judge(reader: _Reader, place: Path, figures: Figures) -> None:
    figures.files += 1
    what = f"{place.name}/{', '.join(p.name for p in sorted(place.iterdir()))}"
    answer = reader.read(place)
    if isinstance(answer, str):
        (figures.hangs if answer == "hangs" else figures.deaths).append(f"{what}: {answer}")
        return
    figures.entries += answer["entries"]
    figures.sentences += answer["sentences"]
    figures.faults += [f"{what}: {fault}" for fault in answer["faults"]]
    figures.longest_s = max(figures.longest_s, answer["seconds"])
    figures.peak_memory = max(figures.peak_memory, answer["memory"])
    if answer["memory"] > MOST_MEMORY:
        figures.greedy.append(f"{what}: takes {answer['memory'] / 2**20:.0f} MiB")


class _Reader:
    """A process that reads, started again when it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, place: Path) -> dict[str, Any] | str:
        """The answer, or what happened instead of one."""
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{place}\n".encode())
        process.stdin.flush()
        over = threading.Event()
        guard = threading.Thread(target=_guard, args=(process, over), daemon=True)
        guard.start()
        ready = _answered(process)
        line = process.stdout.readline() if ready else b""
        over.set()
        guard.join()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        process.kill()
        code = process.wait()
        self._process = None
        return f"the process ended with {code}" if ready else "hangs"

    def _start(self) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", "import fuzzing; fuzzing.read_as_ordered()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        return self._process

    def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.kill()
            self._process.wait()


def _answered(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process says something, or ends, before it counts as hanging."""
    start, begin = time.monotonic(), _processor_s(process.pid)
    while time.monotonic() - start < _LONGEST_S and _processor_s(process.pid) - begin < HANG_S:
        if select.select([process.stdout], [], [], 0.5)[0]:
            return True
    return False


def _processor_s(number: int) -> float:
    """Seconds of the processor that a process has used; 0 where the system does not tell."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _guard(process: subprocess.Popen[bytes], over: threading.Event) -> None:
    """End a process that takes far more memory than it may."""
    while not over.wait(0.05):
        with suppress(OSError, IndexError, ValueError):
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            if pages * os.sysconf("SC_PAGE_SIZE") > _ABORT + MOST_MEMORY:
                process.kill()
