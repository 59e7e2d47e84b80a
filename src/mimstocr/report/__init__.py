"""The report of a run: one HTML file that carries its charts and scripts with it and works without a network."""

from mimstocr.report.inputs import ReportInputs
from mimstocr.report.page import render
from mimstocr.report.risk import RiskInputs, risk_inputs

__all__ = ["ReportInputs", "RiskInputs", "render", "risk_inputs"]
