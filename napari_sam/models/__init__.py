"""The networks: torch and this folder only."""

from __future__ import annotations

from .sam import Sam, build_sam
from .specs import SPECS, DecoderSpec, SamSpec, TinyViTSpec, ViTSpec

__all__ = ["SPECS", "DecoderSpec", "Sam", "SamSpec", "TinyViTSpec", "ViTSpec", "build_sam"]
