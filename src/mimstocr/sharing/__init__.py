"""How tasks share a backbone."""

from mimstocr.sharing.base import SHARINGS, AnySharing, Mixing, Sharing, SharingModule
from mimstocr.sharing.mixing import mean_mixing

__all__ = ["SHARINGS", "AnySharing", "Mixing", "Sharing", "SharingModule", "mean_mixing"]
