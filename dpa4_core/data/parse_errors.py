"""What parsers raise on files that they do not understand, and what to say then.

The words of a library are meant for its programmers. A reader checks what it can and says so itself (`StructureError`);
for everything else the kind of the error decides on the sentence, and the format on what was expected.
"""

from __future__ import annotations

import gzip
import json
import lzma
import re
import sqlite3
import struct
import tarfile
import tokenize
import xml.etree.ElementTree as ET
import zipfile
import zlib

import ase.io
from ase.io.formats import UnknownFileTypeError

from dpa4_core.data.bounded import LONGEST_SENTENCE, json_problem, storable
from dpa4_core.errors import DPA4Error

# of ASE, pymatgen and the standard library
PARSE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,  # a damaged header that announces terabytes
    OSError,
    RuntimeError,
    StopIteration,
    SyntaxError,  # of XML, and of array headers
    TypeError,
    ValueError,
    UnknownFileTypeError,
    ase.io.ParseError,
    re.error,
    sqlite3.Error,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    tokenize.TokenError,  # of array headers
    zlib.error,
)

_EXPECTED = {
    "CIF": "CIF: expected a cell and a loop of sites with symbols and coordinates",
    "POSCAR": "POSCAR: expected a comment, a scale, three lattice vectors, element symbols, counts, Direct or "
    "Cartesian, and three coordinates per atom",
    "XYZ": "XYZ: expected the number of atoms, a comment, and per atom a symbol and three coordinates, or the columns "
    "that Properties announces",
    "JSON": "JSON of structures: expected lattice, species and coordinates as pymatgen or ASE write them",
    "database": "row of an ASE database",
    "trajectory": "frame of an ASE trajectory",
    "vasprun.xml": "vasprun.xml: expected VASP's calculation steps with positions, energy, forces and stress",
    "OUTCAR": "OUTCAR: expected VASP's ionic steps with positions, energies, forces and stress",
    "arrays": "set of NumPy arrays: expected one row of numbers for each frame",
}
_IN_USE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def reason(error: Exception, form: str = "") -> str:
    """Why something cannot be read: a phrase without the names of a programming language.

    Args:
        error: one of `PARSE_ERRORS`.
        form: one of the formats of `_EXPECTED`; what was being read.
    """
    if isinstance(error, DPA4Error) and str(error).strip():
        return storable(" ".join(str(error).split()), LONGEST_SENTENCE)
    return _by_kind(error) or f"the text is not a valid {_EXPECTED.get(form, 'file of this format')}"


def _by_kind(error: Exception) -> str:
    """A phrase for kinds of errors that mean the same in every format; empty for the others."""
    if isinstance(error, json.JSONDecodeError):
        return json_problem(error)
    if isinstance(error, ET.ParseError):
        line, column = error.position
        return f"the text is not valid XML from line {line}, column {column + 1} on"
    if isinstance(error, UnicodeError):
        return "the text is not in UTF-8"
    if isinstance(error, RecursionError):
        return "lists and mappings lie too deep in each other"
    if isinstance(error, MemoryError | OverflowError):
        return "a number in the text announces more than a computer can hold"
    if isinstance(error, tarfile.TarError | zipfile.BadZipFile):
        return "the archive is damaged, encrypted or none; copy or pack it again"
    if isinstance(error, gzip.BadGzipFile | zlib.error | lzma.LZMAError):
        return "the compressed text is damaged or not compressed in this way; copy or pack it again"
    if isinstance(error, sqlite3.Error):
        if getattr(error, "sqlite_errorcode", None) in _IN_USE:
            return "another program is writing to the database; try again when it has ended"
        return "the database is damaged or none; copy it again"
    if isinstance(error, EOFError):
        return "the text ends early; copy the file again"
    if isinstance(error, OSError):
        if error.errno is None:  # of the unpackers
            return "the content is damaged or of another format; copy it again"
        return f"the system refuses it ({storable(error.strerror or 'no reason given', 80)})"
    return ""
