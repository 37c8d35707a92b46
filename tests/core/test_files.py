"""Files are replaced as a whole or not at all, whatever stops the writer."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dpa4_core import files
from dpa4_core.files import WriteError, append, replacing, replacing_text, size_of, write_bytes, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_block_that_fails_leaves_the_old_content_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "numbers.csv"
    write_text(path, "old")
    with pytest.raises(KeyError), replacing_text(path) as stream:
        stream.write("half")
        raise KeyError
    assert path.read_text() == "old"
    assert names(tmp_path) == ["numbers.csv"]


def test_all_forms_write_what_they_are_given_and_make_the_folders(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "text", "Å\r\n")
    write_bytes(tmp_path / "b" / "bytes", b"\0\xff")
    write_json(tmp_path / "c" / "json", {"b": 1, "a": 2}, sort_keys=True, indent=None)
    assert (tmp_path / "a" / "text").read_bytes() == "Å\r\n".encode()
    assert (tmp_path / "b" / "bytes").read_bytes() == b"\0\xff"
    assert (tmp_path / "c" / "json").read_text() == '{"a": 2, "b": 1}'


def test_names_that_are_no_text_are_written_as_their_codes(tmp_path: Path) -> None:
    write_text(tmp_path / "report", "caf\udce9.cif")
    assert (tmp_path / "report").read_text() == "caf\\udce9.cif"


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "big_disk").mkdir()
    target, link = tmp_path / "big_disk" / "model", tmp_path / "model"
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_the_file_has_the_rights_of_any_new_file_whoever_wrote_it(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    with replacing(tmp_path / "private") as part:
        part.unlink()
        os.close(os.open(part, os.O_CREAT | os.O_WRONLY, 0o600))
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_a_file_that_is_replaced_keeps_its_rights(tmp_path: Path) -> None:
    path = tmp_path / "mine"
    write_text(path, "old")
    for before, after in ((0o600, 0o600), (0o440, 0o640)):  # whoever replaces it may go on writing to it
        path.chmod(before)
        write_text(path, "new")
        assert stat.S_IMODE(path.stat().st_mode) == after and path.read_text() == "new"


def test_the_longest_name_that_a_disk_takes_can_be_replaced(tmp_path: Path) -> None:
    write_text(tmp_path / ("Å" * 127), "long")
    assert names(tmp_path) == ["Å" * 127]


def test_a_killed_writer_leaves_the_old_content_and_its_rest_is_cleared_away(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_text(path, "old")
    code = f"""
import os, signal
from dpa4_core.files import replacing
with replacing({str(path)!r}) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    (rest,) = (p for p in tmp_path.iterdir() if p != path)
    write_text(path, "new")
    assert rest.exists()  # a writer that is slow would lose its file
    os.utime(rest, (0, 0))
    write_text(tmp_path / "other", "")
    assert rest.exists()
    write_text(path, "newer")
    assert names(tmp_path) == ["other", "state"]


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "quota"), (errno.EROFS, "another one")]
)
def test_a_disk_that_refuses_gets_a_sentence_and_the_old_content_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "table.csv"
    write_text(path, "old")
    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(WriteError, match=f"table.csv cannot be written: .*{words}"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["table.csv"]


def test_a_folder_that_may_not_even_be_looked_into_gets_the_sentence_too(tmp_path: Path, monkeypatch) -> None:
    def closed(folder: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    for looked_into, words in ((False, "copy the folder"), (True, "give a place where you may")):
        (tmp_path / "kept").touch()
        if looked_into:
            monkeypatch.setattr(Path, "iterdir", closed)
        with pytest.raises(WriteError, match=words), files.refused(tmp_path):
            closed(tmp_path)


def test_an_error_of_another_file_is_not_taken_for_one_of_writing(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), replacing(tmp_path / "copy"):
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/original")


def test_a_line_is_added_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        append(descriptor, b"first line\n", path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))  # the next line does not fit any more
        with pytest.raises(WriteError, match="journal cannot be written: files may not become that large"):
            append(descriptor, b"second line, longer\n", path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert path.read_bytes() == b"first line\n"
    append(descriptor, b"third\n", path)
    os.close(descriptor)
    assert path.read_bytes() == b"first line\nthird\n"


def test_a_line_that_the_system_takes_in_pieces_arrives_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(files.os, "write", lambda descriptor, content: write(descriptor, content[:3]))
    descriptor = os.open(tmp_path / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    append(descriptor, b"one whole line\n", tmp_path / "journal")
    os.close(descriptor)
    assert (tmp_path / "journal").read_bytes() == b"one whole line\n"


def test_a_file_that_is_gone_between_two_looks_has_no_bytes(tmp_path, monkeypatch):
    file = tmp_path / "log"
    file.write_bytes(b"abc")
    assert size_of(file) == 3
    monkeypatch.setattr(Path, "exists", lambda self: True)  # it was there a moment ago
    file.unlink()
    assert size_of(file) == 0
