"""What is remembered from one session to the next, in napari's settings of this plugin (the manifest lists them)."""

from __future__ import annotations

from typing import Any

from napari.settings import get_plugin_settings

PLUGIN = "napari-sam-live"
HOVER = {"auto": None, "on": True, "off": False}
"""How the preview under the cursor is remembered, and what `Hover.wanted` calls it."""


def remembered(section: str, name: str, default: Any) -> Any:
    """Return a setting; `default` where napari does not know the plugin, say in a script without its manifest."""
    return getattr(_section(section), name, default)


def remember(section: str, name: str, value: Any) -> None:
    """Keep a setting for the next session."""
    if (found := _section(section)) is not None:
        setattr(found, name, value)


def _section(name: str) -> Any:
    try:
        return getattr(get_plugin_settings(PLUGIN), name, None)
    except KeyError:
        return None
