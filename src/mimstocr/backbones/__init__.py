"""How a window of one stock is read into one representation."""

from mimstocr.backbones.base import BACKBONES, AnyBackbone, Backbone, Facts, Inputs

__all__ = ["BACKBONES", "AnyBackbone", "Backbone", "Facts", "Inputs"]
