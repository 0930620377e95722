"""Which model computes where, and in which numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFileDialog, QFormLayout, QGridLayout, QPushButton, QWidget

from ..checkpoints.folders import CONFIG, WEIGHTS
from ..checkpoints.listing import all_checkpoints, size_of, state_of
from ..checkpoints.profiles import PROFILES
from ..errors import CheckpointError
from ..worker import ModelChoice
from .parts import SMALL_BUTTON, Complaint, narrow

if TYPE_CHECKING:
    from collections.abc import Sequence

ABOUT = {
    "default": "Comes with the plugin, nothing to download",
    "mobile_sam": "MobileSAM: quick on the CPU",
    "sam_vit_b": "Segment Anything, base",
    "sam_vit_l": "Segment Anything, large: a GPU helps",
    "sam_vit_h": "Segment Anything, huge: a GPU helps",
    "medsam": "MedSAM: boxes in medical images",
}
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
FILE = "checkpoint file\N{HORIZONTAL ELLIPSIS}"
SUFFIXES, PROFILE_SUFFIX = (".pt", ".pth", ".safetensors"), ".toml"
OF_THE_FILE = "as the file says"
PROFILE = "What pictures the model was trained on, where its file does not say so"


class ModelPicker(QWidget):
    """The model in one box; device, precision, profile and `more` in `details`, which whoever shows it lays out.

    A button folds them away.
    """

    changed = Signal(object)

    def __init__(self, more: Sequence[QWidget] = ()) -> None:
        super().__init__()
        self._value = ModelChoice()
        self._about = _described_models()
        self._model = ComboBox(choices=self._models)
        self._device, self._precision = ComboBox(choices=DEVICES), ComboBox(choices=PRECISIONS)
        self._profile = ComboBox(choices=self._profiles)
        self.details, self._more, self._complaint = QWidget(), QPushButton(), Complaint()
        self._lay_out(more)
        self._model.changed.connect(self._on_model_changed)
        for box in (self._device, self._precision, self._profile):
            box.changed.connect(self._on_details_changed)
        self._more.toggled.connect(self.details.setVisible)
        self.setValue(self._value)

    def value(self) -> ModelChoice:
        """Return the choice."""
        return self._value

    def setValue(self, choice: ModelChoice) -> None:
        """Show a choice, without telling."""
        self._value = choice
        model, device, precision, profile = self._model, self._device, self._precision, self._profile
        with model.changed.blocked(), device.changed.blocked(), precision.changed.blocked(), profile.changed.blocked():
            model.reset_choices()
            profile.reset_choices()
            model.value, device.value, precision.value = choice.model, choice.device, choice.precision
            profile.value = choice.profile or OF_THE_FILE
        self._describe_models()

    def open_file(self, path: str) -> None:
        """Choose a checkpoint, a file or a folder; or, for the model that is chosen, the profile in a TOML file."""
        if path.lower().endswith(PROFILE_SUFFIX):
            self._choose(replace(self._value, profile=path))
        else:
            self._choose(replace(self._value, model=path, profile=None))

    def complain(self, text: str) -> None:
        """Say why the model cannot be used; nothing if it can."""
        if text != self._complaint.text():
            self._complaint.setText(text)

    def complaint(self) -> str:
        """Return what is wrong with the model."""
        return self._complaint.text()

    def _lay_out(self, more: Sequence[QWidget]) -> None:
        self._more.setText("\N{HORIZONTAL ELLIPSIS}")
        self._more.setCheckable(True)
        self._more.setToolTip("Device, precision, profile; what the encoder sees; what is kept of encoded images")
        self._more.setFixedWidth(SMALL_BUTTON)
        self._device.native.setToolTip("auto: a CUDA GPU, else Apple's, else the CPU")
        self._precision.native.setToolTip(
            "auto: float16 on a CUDA GPU; on a CPU bfloat16 for large models where that is quicker, else float32"
        )
        self._profile.native.setToolTip(PROFILE)
        form = QFormLayout(self.details)
        form.setContentsMargins(0, 0, 0, 0)
        named = {"Device": self._device, "Precision": self._precision, "Profile": self._profile}
        for name, box in named.items():
            form.addRow(name, box.native)
        for box in (self._model, *named.values()):
            narrow(box.native)
        for widget in more:
            form.addRow(widget)
        self.details.hide()
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._model.native, 0, 0)
        layout.addWidget(self._more, 0, 1)
        layout.addWidget(self._complaint, 1, 0, 1, 2)
        self.setFocusProxy(self._model.native)

    def _models(self, _box: Any) -> list[tuple[str, str]]:
        chosen = self._value.model
        file = [] if chosen in self._about else [(Path(chosen).name, chosen)]
        return [*((name, name) for name in self._about), *file, (FILE, FILE)]

    def _profiles(self, _box: Any) -> list[str]:
        chosen = self._value.profile
        return [OF_THE_FILE, *PROFILES, *([] if chosen is None or chosen in PROFILES else [chosen])]

    def _describe_models(self) -> None:
        box = self._model.native
        for row in range(box.count()):
            name = str(self._model.choices[row])
            about = "Weights of your own, or downloaded by hand" if name == FILE else self._about.get(name, name)
            box.setItemData(row, about, Qt.ItemDataRole.ToolTipRole)
        chosen = self._value.model
        box.setToolTip(
            f"{self._about.get(chosen, chosen)}\nA checkpoint can be dropped here, or a profile (.toml) for this one."
        )

    def _on_model_changed(self, model: str) -> None:
        if model == FILE:
            kinds = " ".join(f"*{suffix}" for suffix in SUFFIXES)
            model, _ = QFileDialog.getOpenFileName(self, "Open a checkpoint", "", f"Checkpoints ({kinds});;All (*)")
        self._choose(replace(self._value, model=model or self._value.model, profile=None))

    def _on_details_changed(self) -> None:
        profile = None if self._profile.value == OF_THE_FILE else self._profile.value
        device, precision = self._device.value, self._precision.value
        self._choose(replace(self._value, device=device, precision=precision, profile=profile))

    def _choose(self, choice: ModelChoice) -> None:
        is_new = choice != self._value
        self._about = _described_models()  # some may have been downloaded meanwhile
        self.setValue(choice)
        if is_new:
            self.changed.emit(choice)


def is_model_file(path: Path) -> bool:
    """Whether something may be weights or a profile, by its name: a file, or a folder with weights in it."""
    is_file = path.suffix.lower() in (*SUFFIXES, PROFILE_SUFFIX)
    return is_file or any((path / name).is_file() for name in (CONFIG, *WEIGHTS))


def _described_models() -> dict[str, str]:
    """Return the names that there are, and what to know before one is chosen."""
    try:
        entries = all_checkpoints()
    except CheckpointError:  # in the user's own list; whoever loads a model by its name hears of it
        return dict(ABOUT)
    return {
        name: "\n".join(
            line
            for line in (
                ABOUT.get(name, ""),
                f"{size_of(entry)}, {state_of(entry)}",
                f"Licence: {entry.about.licence or 'unknown'}",
                entry.warning,
            )
            if line
        )
        for name, entry in entries.items()
    }
