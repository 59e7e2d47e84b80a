"""How tasks share a backbone."""

from mimstocr.sharing.base import SHARINGS, AnySharing, Sharing

__all__ = ["SHARINGS", "AnySharing", "Sharing"]
