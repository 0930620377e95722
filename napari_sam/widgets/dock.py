"""The dock: which image, which model, which labels; what goes on; and the buttons."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Labels
from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent, QSize
from qtpy.QtWidgets import QCheckBox, QFormLayout, QLabel, QVBoxLayout, QWidget

from ..bridge.chosen import ChosenImage
from ..bridge.keys import keys_in_words
from ..bridge.registry import open_controllers
from ..bridge.remembered import remember_choice, remember_ways, remembered_choice
from ..errors import CheckpointError, DeviceError, NapariSamError
from ..pending import Phase, Status
from .action_bar import BUTTONS, ActionBar
from .bell import hang_bell
from .cache_panel import CachePanel
from .candidates import CandidateStrip
from .layer_picker import LayerPicker
from .model_picker import ModelPicker, is_model_file
from .objects_panel import ObjectsPanel
from .parts import Buttons, Column, Complaint, Section
from .status_line import StatusLine
from .tool_bar import ToolBar

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Image, Layer
    from napari.viewer import Viewer

    from ..bridge.controller import Controller
    from ..bridge.tools import Tool
    from ..worker import ModelChoice

NO_IMAGE = "Open an image to begin: drop a file into the window, or try File > Open Sample > Segment Anything."
NOT_CHOSEN = "Choose an image to begin."
WIDTH = 300
HOVER = "Show the mask under the cursor before the click"
TOO_SLOW = "Off by itself: this model takes too long to follow the hand. Tick it to have it all the same."
VIEWS = {
    "show_embedding": ("Show embedding", "What the encoder tells apart, as colours, in a layer"),
    "show_encoder_input": ("Show input", "Exactly what the encoder sees, in a layer"),
}
NO_CANDIDATES = "None yet: click on an object, or draw a box round it."
NO_MODEL = "This model cannot be used: see above, or choose another."
FORMER_MODEL = "That model cannot be used: see above. The one before stays in use; or choose another."
OBSTACLES = {
    "commit": "nothing is outlined, click on an object first.",
    "clear": "there is no click and no box in this slice.",
    "undo": "nothing was done yet.",
    "redo": "nothing was undone.",
}


class SegmentAnythingDock(QWidget):
    """Shows the annotation of the chosen image, and hands on what is asked.

    Parameters
    ----------
    napari_viewer
        The viewer that the dock belongs to; napari gives it by this name.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        # napari hands plugins a proxy, whose layers are never identical with themselves.
        self._viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self._shown: Controller | None = None
        self._is_listening = False
        self._picked: ModelChoice | None = None
        self._take_bell_down: Callable[[], None] | None = None
        self._views, self._cache = Buttons(VIEWS, 2), CachePanel()
        self._model = ModelPicker((self._views, self._cache))
        self._model.setValue(remembered_choice())
        self._chosen = ChosenImage(self._viewer, self._model.value())
        self._image = LayerPicker(self._images, "choose an image", offers_none=False)
        self._labels = LayerPicker(self._labels_layers, "new layer", offers_none=True)
        self._labels_complaint, self._status, self._tools = Complaint(), StatusLine(), ToolBar()
        self._hover = QCheckBox("Preview under the cursor")
        self._candidates, self._actions, self._objects = CandidateStrip(), ActionBar(), ObjectsPanel()
        self._lay_out()
        self._connect_parts()
        self._listen()

    @property
    def annotator(self) -> Controller | None:
        """The annotation of the chosen image, None if no image is chosen."""
        return self._chosen.annotator

    # Making and ending

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for name, picker in (("&Image", self._image), ("&Model", self._model), ("&Labels", self._labels)):
            form.addRow(name, picker)
        form.insertRow(2, self._model.details)
        form.addRow(self._labels_complaint)
        keys = QLabel("<br>".join(keys_in_words(self._viewer)))
        keys.setWordWrap(True)
        parts = (self._status, self._tools, self._hover, self._candidates, self._actions, self._objects)
        column = QWidget()
        layout = QVBoxLayout(column)
        layout.addLayout(form)
        for part in (*parts, Section("Keys", keys, "What keys do while a layer of the annotation is selected")):
            layout.addWidget(part)
        layout.addStretch()
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(Column(column))
        self.setAcceptDrops(True)
        self._image.setToolTip("The image to annotate")
        self._labels.setToolTip("Where objects are written; ids go on after the layer's largest")

    def _connect_parts(self) -> None:
        self._image.changed.connect(self._on_image_picked)
        self._model.changed.connect(self._on_model_picked)
        self._labels.changed.connect(self._on_labels_picked)
        self._status.cancelled.connect(self._on_cancelled)
        self._status.retried.connect(self._on_retried)
        self._tools.changed.connect(self._on_tool_picked)
        self._hover.clicked.connect(self._on_hover_picked)
        self._candidates.chosen.connect(self._on_candidate_picked)
        self._actions.asked.connect(self._on_action_asked)
        self._objects.failed.connect(_notify)
        self._objects.overlap_picked.connect(self._on_overlap_picked)
        self._views.asked.connect(self._on_view_asked)

    def _layer_events(self) -> list[Any]:
        events = self._viewer.layers.events
        return [events.inserted, events.removed, events.reordered, events.renamed]

    def _annotator_connections(self, annotator: Controller) -> list[tuple[Any, Callable[..., None]]]:
        """Every signal of an annotation that we listen to, and who answers it."""
        events = annotator.events
        return [
            (events.status_changed, self._on_status_changed),
            (events.mask_changed, self._on_mask_changed),
            (events.failed, _notify),
            (events.embedding_ready, self._on_embedding_ready),
            (annotator.tools.changed, self._on_tool_changed),
            (annotator.hover.switched, self._on_hover_switched),
        ]

    def _listen(self) -> None:
        """Follow the viewer."""
        if self._is_listening:
            return
        self._is_listening = True
        for event in self._layer_events():
            event.connect(self._on_layers_changed)
        self._chosen.changed.connect(self._on_chosen_changed)
        if (window := getattr(self._viewer, "window", None)) is not None:
            self._take_bell_down = hang_bell(window, self._chosen.mailbox, self._stop)
        self._try(self._chosen.listen)
        self._show_all()

    def _stop(self) -> None:
        """Leave everything alone that outlives us."""
        if not self._is_listening:
            return
        self._is_listening = False
        self._chosen.changed.disconnect(self._on_chosen_changed)
        self._chosen.stop()
        self._show(None)
        if self._take_bell_down is not None:
            self._take_bell_down()
        for event in self._layer_events():
            event.disconnect(self._on_layers_changed)

    def sizeHint(self) -> QSize:
        """Ask for a narrow column, as high as it needs."""
        return QSize(WIDTH, super().sizeHint().height())

    def dragEnterEvent(self, event: Any) -> None:
        """Take a checkpoint or a profile that is dropped here; other files are napari's."""
        if _model_file_in(event) is None:
            event.ignore()
        else:
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:
        """Choose a checkpoint, or a profile, that was dropped."""
        if (path := _model_file_in(event)) is not None:
            self._model.open_file(str(path))

    def event(self, event: Any) -> bool:
        """Stop when napari takes us out of its window: it tells in no other way."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is None:
                self._stop()
            else:
                self._listen()
        return bool(super().event(event))

    # What people pick

    def _on_image_picked(self, image: Image | None) -> None:
        self._try(lambda: self._chosen.choose(image))
        if self._shown is not None:
            self._shown.tools.take(self._shown.tools.pointing)  # the next click is for this image
        self._show_pickers()

    def _on_model_picked(self, choice: ModelChoice) -> None:
        self._picked = choice
        self._chosen.set_model(choice)

    def _on_labels_picked(self, labels: Labels | None) -> None:
        if self._shown is not None:
            annotator = self._shown
            self._try(lambda: annotator.set_labels(labels), self._labels_complaint)
        self._show_pickers()

    def _on_cancelled(self) -> None:
        if self._shown is not None:
            self._shown.cancel()

    def _on_retried(self) -> None:
        if self._shown is not None:
            self._shown.set_model(self._shown.refused or self._shown.choice)

    def _on_tool_picked(self, tool: Tool) -> None:
        if self._shown is not None:
            self._shown.tools.take(tool)

    def _on_hover_picked(self, wanted: bool) -> None:
        if self._shown is not None:
            self._shown.hover.wanted = wanted
            remember_ways(self._shown)

    def _on_overlap_picked(self) -> None:
        if self._shown is not None:
            remember_ways(self._shown)

    def _on_candidate_picked(self, index: int) -> None:
        if self._shown is not None:
            self._shown.choose(index)

    def _on_action_asked(self, name: str) -> None:
        if self._shown is not None:
            self._try(self._shown.commit_as_chosen if name == "commit" else getattr(self._shown, name))

    def _on_view_asked(self, name: str) -> None:
        if self._shown is not None:
            self._try(getattr(self._shown.views, name))

    def _try(self, call: Callable[[], Any], beside: Complaint | None = None) -> None:
        """Make a call; where it is not possible say so, `beside` what caused it, and as a notification."""
        self._labels_complaint.setText("")
        try:
            call()
        except NapariSamError as error:
            if beside is None:
                self._status.set_status(Status(Phase.FAILED, message=str(error), error=error), can_retry=False)
            else:
                beside.setText(str(error))
            _notify(error)

    # What happens elsewhere

    def _on_layers_changed(self) -> None:
        self._show_pickers()
        if self._shown is None:
            self._show_status()

    def _on_chosen_changed(self) -> None:
        self._show(self._chosen.annotator)
        self._show_all()

    def _on_status_changed(self) -> None:
        if self._model.value() != self._chosen.choice:  # set by a script, or back at the former
            self._model.setValue(self._chosen.choice)
        self._show_status()

    def _on_mask_changed(self) -> None:
        self._show_candidates()

    def _on_embedding_ready(self) -> None:
        annotator = self._shown
        if annotator is not None and annotator.choice == self._picked and annotator.status.phase is not Phase.LOADING:
            remember_choice(self._picked)  # not before it is known to load
        if self._cache.isVisible():
            self._cache.refresh()

    def _on_tool_changed(self) -> None:
        self._tools.setValue(None if self._shown is None else self._shown.tools.current)

    def _on_hover_switched(self) -> None:
        hover = None if self._shown is None else self._shown.hover
        self._hover.setEnabled(hover is not None)
        self._hover.setChecked(hover is not None and hover.is_on)
        is_off_by_itself = hover is not None and not hover.is_on and hover.wanted is None
        self._hover.setToolTip(f"{HOVER}\n{TOO_SLOW}" if is_off_by_itself else HOVER)

    # What is shown

    def _show(self, annotator: Controller | None) -> None:
        """Listen to an annotation in place of another."""
        if self._shown is not None:
            for signal, answer in self._annotator_connections(self._shown):
                signal.disconnect(answer)
        self._shown = annotator
        self._objects.set_annotator(annotator)
        if annotator is not None:
            for signal, answer in self._annotator_connections(annotator):
                signal.connect(answer)

    def _show_all(self) -> None:
        self._show_pickers()
        self._show_status()
        self._show_candidates()
        self._on_tool_changed()
        self._on_hover_switched()

    def _show_pickers(self) -> None:
        annotator = self._shown
        self._image.setValue(None if annotator is None else annotator.image_layer)
        self._image.setEnabled(bool(self._images()))
        self._labels.setValue(None if annotator is None else annotator.labels)
        self._labels.setEnabled(annotator is not None)
        self._model.setValue(self._chosen.choice)

    def _show_status(self) -> None:
        annotator = self._shown
        status = Status(Phase.NO_IMAGE, message=self._what_is_missing()) if annotator is None else annotator.status
        is_former = annotator is not None and annotator.refused is not None
        is_model = is_former or isinstance(status.error, CheckpointError | DeviceError)
        self._model.complain(str(status.error) if is_model else "")
        if is_model and status.phase is Phase.FAILED:
            status = replace(status, message=FORMER_MODEL if is_former else NO_MODEL)
        self._status.set_status(status)
        obstacle = status.message if status.phase is Phase.NO_IMAGE else ""
        self._tools.set_obstacle(obstacle)
        self._views.set_obstacle(obstacle)
        self._actions.set_obstacles({name: obstacle or self._obstacle(name) for name in BUTTONS})

    def _show_candidates(self) -> None:
        annotator = self._shown
        if annotator is None:
            self._candidates.set_hint("Candidates come here, to choose from, once there is an image.")
            self._candidates.set_candidates((), None)
        else:
            self._candidates.set_hint(NO_CANDIDATES)
            self._candidates.set_candidates(annotator.candidates, annotator.chosen)

    def _what_is_missing(self) -> str:
        return NOT_CHOSEN if self._images() else NO_IMAGE

    def _obstacle(self, action: str) -> str:
        """Return why an action is not possible now, or nothing."""
        if (annotator := self._shown) is None:
            return self._what_is_missing()
        possible = {
            "commit": annotator.has_pending,
            "clear": annotator.has_prompts,
            "undo": annotator.can_undo,
            "redo": annotator.can_redo,
        }
        return "" if possible[action] else OBSTACLES[action]

    def _images(self) -> list[Image]:
        return self._chosen.images

    def _labels_layers(self) -> list[Layer]:
        previews = [controller.preview for controller in open_controllers(self._viewer)]
        return [layer for layer in self._viewer.layers if isinstance(layer, Labels) and layer not in previews]


def _notify(error: Exception) -> None:
    """Say what was not possible where napari says such things."""
    show_error(str(error))


def _model_file_in(event: Any) -> Path | None:
    """Return the one checkpoint or profile that is dragged, None if something else is."""
    urls = event.mimeData().urls()
    path = Path(urls[0].toLocalFile()) if len(urls) == 1 and urls[0].isLocalFile() else None
    return path if path is not None and is_model_file(path) else None
