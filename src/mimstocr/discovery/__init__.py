"""Which auxiliary tasks help the main one: by gradients on held-out days, and by trying."""

from mimstocr.discovery.whole import Discovery, discover

__all__ = ["Discovery", "discover"]
