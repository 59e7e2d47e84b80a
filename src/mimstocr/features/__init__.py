"""What the model sees: features of each stock's past, as windows made on demand."""

from mimstocr.features.base import FEATURES, AnyFeatures, Features, Fitted, WindowMaker

__all__ = ["FEATURES", "AnyFeatures", "Features", "Fitted", "WindowMaker"]
