"""Errors that a user can mend: the message is one sentence that names the value and the remedy."""

from __future__ import annotations


class DPA4Error(ValueError):
    """Base of errors caused by input: a wrong file, name, key or structure. Commands print the sentence and exit
    with 1."""


def named(name: str, error: str) -> str:
    """A sentence with whom it is about before it, unless it begins so, as sentences about a file do.

    Those of readers begin with the file and what is meant of it: ``set.tar, a.cif: no lattice`` is about the entry
    ``set.tar/a.cif``, by its short name ``a``, and ``runs/a.cif: no lattice`` about ``a``.
    """
    file, _, member = error.partition(": ")[0].partition(", ")
    of_it = error.startswith((f"{name}:", f"{name},", f"{name} ")) or name.startswith((f"{file}/", f"{file}:"))
    of_it = of_it or any(f"/{name}." in f"/{part}." for part in (file, member))
    return error if of_it else f"{name}: {error}"


def plural(count: int, noun: str) -> str:
    """``1 structure``, ``2 structures``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def words_of(error: BaseException) -> str:
    """What an error of another library says, as a phrase on one line, without the names of a programming language."""
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    if isinstance(error, KeyError):  # its text is nothing but the key
        return f"{error} is missing"
    lines = str(error).strip().splitlines()
    return " ".join(lines[0].split())[:200] if lines else "no reason was given"
