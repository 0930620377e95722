"""What is remembered between sessions, in napari's own settings of the plugin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from annotating import SHAPE
from fakes import PATIENCE, FakePredictor
from napari.components import ViewerModel
from napari.layers import Image
from napari.settings import get_plugin_settings
from napari.utils.key_bindings import KeymapHandler, coerce_keybinding
from npe2 import PluginManager, PluginManifest

import napari_sam
from napari_sam.bridge import commands, keys
from napari_sam.bridge.chosen import ChosenImage
from napari_sam.bridge.keys import ACTIONS, keys_in_use
from napari_sam.bridge.remembered import remember_choice, remember_ways, remembered_choice
from napari_sam.objects import Overlap
from napari_sam.worker import ModelChoice


@pytest.fixture
def settings(plugin_settings: Any, npe2pm: PluginManager) -> Any:
    npe2pm.register(PluginManifest.from_distribution("napari-sam-live"))
    return get_plugin_settings("napari-sam-live")


@pytest.fixture
def choose(viewer: ViewerModel, predictor: FakePredictor) -> Callable[[], ChosenImage]:
    def begin() -> ChosenImage:
        chosen = ChosenImage(viewer, remembered_choice())
        chosen.choose(viewer.add_image(np.zeros(SHAPE, np.uint8)))
        return chosen

    return begin


def test_every_action_has_a_setting_a_key_and_a_command(settings: Any) -> None:
    assert {name: getattr(settings.keys, name) for name in ACTIONS} == keys_in_use()
    assert len(set(keys_in_use().values())) == len(ACTIONS)
    assert all(callable(getattr(commands, name)) for name in ACTIONS)


def test_model_hover_and_overlap_are_as_they_were_left(settings: Any, choose: Callable[[], ChosenImage]) -> None:
    assert remembered_choice() == ModelChoice()
    first = choose().annotator
    assert first.hover.wanted is None
    first.hover.wanted, first.overlap = False, Overlap.REPLACE
    remember_ways(first)
    remember_choice(ModelChoice("mobile_sam", "cpu", "float32"))
    assert "mobile_sam" in settings.config_path.read_text()
    second = choose().annotator
    assert second.choice == ModelChoice("mobile_sam", "cpu", "float32")
    assert second.hover.wanted is False
    assert second.overlap is Overlap.REPLACE


def test_the_key_of_the_preview_is_remembered_as_its_box_is(settings: Any, choose: Callable[[], ChosenImage]) -> None:
    annotator = choose().annotator
    annotator.overlap = Overlap.REPLACE  # by a script, which remembers nothing
    assert annotator.hover.is_on
    handler = KeymapHandler()
    handler.keymap_providers = [annotator.points]
    handler.press_key("H")
    assert settings.annotation.hover == "off"
    assert settings.annotation.overlap == "keep"
    assert choose().annotator.hover.wanted is False


def test_scripts_begin_with_what_they_say(
    settings: Any, viewer: ViewerModel, image: Image, predictor: FakePredictor
) -> None:
    settings.annotation.overlap = "replace"
    settings.annotation.model = "mobile_sam"
    annotator = napari_sam.annotate(viewer, image)
    assert annotator.choice == ModelChoice()
    assert annotator.overlap is Overlap.KEEP


def test_another_key_does_it_and_the_former_no_longer(settings: Any, choose: Callable[[], ChosenImage]) -> None:
    settings.keys.commit = "Control-Enter"
    annotator = choose().annotator
    annotator.points.add([(20, 30)])
    annotator.wait(PATIENCE)
    handler = KeymapHandler()
    handler.keymap_providers = [annotator.points]
    handler.press_key("Enter")
    assert not annotator.labels.data.any()
    handler.press_key("Control-Enter")
    assert annotator.labels.data.any()


@pytest.mark.parametrize("key", ["Nonsense-Q", "Control-Nothing", ""])
def test_a_key_that_there_is_not_is_said_once_and_its_own_is_used(
    settings: Any, choose: Callable[[], ChosenImage], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    said: list[str] = []
    monkeypatch.setattr(keys, "show_warning", said.append)
    settings.keys.commit = key
    assert keys_in_use()["commit"] == "Enter"
    choose()
    assert len(said) == 1
    assert repr(key) in said[0]


def test_a_key_for_two_actions_is_said_and_given_back_whole(
    settings: Any, choose: Callable[[], ChosenImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(keys, "show_warning", said.append)
    settings.keys.redo = "Enter"
    annotator = choose().annotator
    assert said == ["the settings give 'Enter' to 'commit' and to 'redo': it does the latter"]
    annotator.close()
    assert not annotator.points.keymap.get(coerce_keybinding("Enter"))


def test_without_the_plugin_in_napari_everything_has_its_default(plugin_settings: Any) -> None:
    assert remembered_choice() == ModelChoice()
    assert keys_in_use()["commit"] == "Enter"
    remember_choice(ModelChoice("mobile_sam"))
    assert remembered_choice() == ModelChoice()
