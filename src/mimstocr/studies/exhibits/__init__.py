"""What a study shows of its runs: tables and figures."""

from mimstocr.studies.exhibits.base import EXHIBITS, AnyExhibit, Drawing, Entry, Exhibit, Shows, Table

__all__ = ["EXHIBITS", "AnyExhibit", "Drawing", "Entry", "Exhibit", "Shows", "Table"]
