"""Errors that a user can mend: the message is one sentence that names the value and the remedy."""

from __future__ import annotations


class DPA4Error(ValueError):
    """Base of errors caused by input: a wrong file, name, key or structure. Commands print the sentence and exit
    with 1."""
