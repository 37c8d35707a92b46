"""Reports of a run: tables in the terminal, files for other programs, and one self-contained HTML page."""

from dpa4_flows.report.html import write_report
from dpa4_flows.report.tables import export, print_funnel, print_ranking, write_csv

__all__ = ["export", "print_funnel", "print_ranking", "write_csv", "write_report"]
