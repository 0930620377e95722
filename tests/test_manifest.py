"""The manifest is valid, and everything that it promises is there."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import pytest
from napari._app_model.constants import MenuId
from npe2 import PluginManifest

import napari_sam
from napari_sam.bridge import commands


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_distribution("napari-sam-live")


def test_manifest_is_that_of_the_package(manifest: PluginManifest) -> None:
    assert manifest.name == "napari-sam-live"
    assert manifest.display_name == "Segment Anything"
    file = Path(napari_sam.__file__).with_name("napari.yaml")
    assert manifest.contributions == PluginManifest.from_file(file).contributions


def test_every_command_exists(manifest: PluginManifest) -> None:
    for command in manifest.contributions.commands:
        module, name = str(command.python_name).split(":")
        assert callable(getattr(import_module(module), name))


def test_the_dock_is_named_segment_anything(manifest: PluginManifest) -> None:
    assert [widget.display_name for widget in manifest.contributions.widgets] == ["Segment Anything"]


def test_menus_are_ones_that_napari_shows(manifest: PluginManifest) -> None:
    # A menu that napari does not know passes the manifest's checks and is never shown.
    assert set(manifest.contributions.menus) <= MenuId.contributables()


def test_commands_are_all_used(manifest: PluginManifest) -> None:
    made = {command.id for command in manifest.contributions.commands}
    used = {each.command for each in (*manifest.contributions.widgets, *manifest.contributions.sample_data)}
    offered = {f"napari-sam-live.{name}" for name, _ in inspect.getmembers(commands, is_command)}
    assert made == used | offered


def is_command(member: object) -> bool:
    """Whether something is a public function of the command palette's module."""
    return inspect.isfunction(member) and member.__module__ == commands.__name__ and member.__name__[0] != "_"
