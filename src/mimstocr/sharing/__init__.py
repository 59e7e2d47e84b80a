"""How tasks share a backbone."""

from mimstocr.sharing.base import SHARINGS, AnySharing, Mixing, Sharing, SharingModule

__all__ = ["SHARINGS", "AnySharing", "Mixing", "Sharing", "SharingModule"]
