"""The report of a comparison: one self-contained HTML file, in English or Spanish.

`ReportData` is all it is made of; `render_report` and `write_report` make it.
"""

from iquitos_rl.evaluation.report.data import ReportData
from iquitos_rl.evaluation.report.render import render_report, write_report
from iquitos_rl.evaluation.report.texts import LANGUAGES

__all__ = ["LANGUAGES", "ReportData", "render_report", "write_report"]
