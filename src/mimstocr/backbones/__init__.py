"""How a window of one stock is read into one representation."""

from mimstocr.backbones.base import BACKBONES, AnyBackbone, Backbone

__all__ = ["BACKBONES", "AnyBackbone", "Backbone"]
