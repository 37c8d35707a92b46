"""Runs: folders of one kind or another that answer the same questions; `kinds` knows all of them."""

from dpa4_flows.runs.run import How, Nobody, Note, Outcome, Part, Run, RunStatus, RunStructure, Watch

__all__ = ["How", "Nobody", "Note", "Outcome", "Part", "Run", "RunStatus", "RunStructure", "Watch"]
