"""The headless API: an image in, masks out, numpy on both sides."""

from .loading import load_predictor
from .predictor import Predictor

__all__ = ["Predictor", "load_predictor"]
