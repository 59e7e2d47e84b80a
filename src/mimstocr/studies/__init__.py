"""Grids of runs, and the tables and figures that they add up to."""

from mimstocr.studies.study import Cell, Study, load_study, shipped_studies

__all__ = ["Cell", "Study", "load_study", "shipped_studies"]
