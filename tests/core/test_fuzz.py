"""Hundreds of broken files of all formats: no exception, no hang, no flood of memory, and plain sentences."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzzing import MOST_MEMORY, fuzz, is_plain, is_storable, write_seeds

from dpa4_core.data.frames import read_frames
from dpa4_core.data.readers import iter_structures
from dpa4_flows.reference.entries_file import read_entries


def test_broken_files_end_in_plain_sentences_in_time_and_memory() -> None:
    figures = fuzz(500, seed=11)
    assert not figures.problems, "\n".join(figures.problems[:5])
    assert figures.files == 500
    assert figures.sentences > 250  # damage is found
    assert figures.entries - figures.sentences > 250  # and what is whole is read
    assert figures.peak_memory < MOST_MEMORY


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_more_broken_files() -> None:
    figures = fuzz(20_000, seed=12)
    assert not figures.problems, "\n".join(figures.problems[:5])


def test_the_healthy_files_are_read_without_a_word(tmp_path: Path) -> None:
    """What is damaged above is whole before; else nothing would be tried."""
    for path in write_seeds(tmp_path):
        top = path.relative_to(tmp_path).parts[0]
        if top.startswith("labelled"):
            assert all(not hasattr(frame, "error") for frame in read_frames(tmp_path / top)), path
        elif path.suffix in (".tar", ".zip") or ".tar." in path.name:
            errors = [named.error for named in iter_structures(path) if named.error is not None]
            assert all("inside an archive is not read; unpack it" in error for error in errors), errors
        elif path.name == "entries.json":
            assert list(read_entries(path)) == ["mp-1", "mp-2"]
        else:
            assert all(named.error is None for named in iter_structures(path)), path


def test_the_judge_knows_bad_sentences() -> None:
    for bad in (
        "a.cif cannot be read: ValueError: could not convert string to float: 'x'",
        "list index out of range",
        "'NoneType' object has no attribute 'x'",
        "two lines\nof text",
        "half a character \ud800",
        "",
    ):
        assert not is_plain(bad)
    assert is_plain("a.json, row1: there are 2 species and 1 coordinates; give one of each per site")
    assert is_storable("LiCoO₂") and not is_storable("zero\0")
