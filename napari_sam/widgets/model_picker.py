"""Which model computes where, and in which numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from magicgui.widgets import ComboBox
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFileDialog, QFormLayout, QGridLayout, QPushButton, QWidget

from ..worker import ModelChoice
from .parts import SMALL_BUTTON, narrow

MODELS = {
    "default": "Comes with the plugin, nothing to download",
    "mobile_sam": "MobileSAM: quick on the CPU; 40 MB are downloaded at first use",
    "sam_vit_b": "Segment Anything, base; 375 MB are downloaded at first use",
    "sam_vit_l": "Segment Anything, large; 1.2 GB are downloaded at first use, a GPU helps",
    "sam_vit_h": "Segment Anything, huge; 2.6 GB are downloaded at first use, a GPU helps",
}
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
FILE = "checkpoint file\N{HORIZONTAL ELLIPSIS}"
SUFFIXES = "Checkpoints (*.pt *.pth *.safetensors);;All files (*)"


class ModelPicker(QWidget):
    """The model in one box; device and precision folded away below it."""

    changed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._value = ModelChoice()
        self._model = ComboBox(choices=self._models)
        self._device = ComboBox(choices=DEVICES)
        self._precision = ComboBox(choices=PRECISIONS)
        self._details, self._more = QWidget(), QPushButton()
        self._lay_out()
        self._model.changed.connect(self._on_model_changed)
        self._device.changed.connect(self._on_details_changed)
        self._precision.changed.connect(self._on_details_changed)
        self._more.toggled.connect(self._details.setVisible)
        self.setValue(self._value)

    def value(self) -> ModelChoice:
        """Return the choice."""
        return self._value

    def setValue(self, choice: ModelChoice) -> None:
        """Show a choice, without telling."""
        self._value = choice
        with self._model.changed.blocked(), self._device.changed.blocked(), self._precision.changed.blocked():
            self._model.reset_choices()
            self._model.value = choice.model
            self._device.value = choice.device
            self._precision.value = choice.precision
        self._describe_models()

    def _lay_out(self) -> None:
        self._more.setText("\N{HORIZONTAL ELLIPSIS}")
        self._more.setCheckable(True)
        self._more.setToolTip("Device and precision")
        self._more.setFixedWidth(SMALL_BUTTON)
        self._device.native.setToolTip("auto: a CUDA GPU, else Apple's, else the CPU")
        self._precision.native.setToolTip(
            "auto: float16 on a CUDA GPU, else float32; bfloat16 is quicker on newer CPUs"
        )
        for box in (self._model, self._device, self._precision):
            narrow(box.native)
        form = QFormLayout(self._details)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Device", self._device.native)
        form.addRow("Precision", self._precision.native)
        self._details.hide()
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._model.native, 0, 0)
        layout.addWidget(self._more, 0, 1)
        layout.addWidget(self._details, 1, 0, 1, 2)
        self.setFocusProxy(self._model.native)

    def _models(self, _box: Any) -> list[tuple[str, str]]:
        chosen = self._value.model
        file = [] if chosen in MODELS else [(Path(chosen).name, chosen)]
        return [*((name, name) for name in MODELS), *file, (FILE, FILE)]

    def _describe_models(self) -> None:
        box = self._model.native
        for row in range(box.count()):
            name = str(self._model.choices[row])
            about = "Weights of your own, or downloaded by hand" if name == FILE else MODELS.get(name, name)
            box.setItemData(row, about, Qt.ItemDataRole.ToolTipRole)
        box.setToolTip(MODELS.get(self._value.model, self._value.model))

    def _on_model_changed(self, model: str) -> None:
        if model == FILE:
            model, _ = QFileDialog.getOpenFileName(self, "Open a checkpoint", "", SUFFIXES)
        self._choose(replace(self._value, model=model or self._value.model, profile=None))

    def _on_details_changed(self) -> None:
        self._choose(replace(self._value, device=self._device.value, precision=self._precision.value))

    def _choose(self, choice: ModelChoice) -> None:
        is_new = choice != self._value
        self.setValue(choice)
        if is_new:
            self.changed.emit(choice)
