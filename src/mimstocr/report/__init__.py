"""The report of a run: one HTML file that carries its charts and scripts with it and works without a network."""

from mimstocr.report.inputs import ReportInputs
from mimstocr.report.page import render

__all__ = ["ReportInputs", "render"]
