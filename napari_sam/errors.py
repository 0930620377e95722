"""Every exception that a user can meet, in one place."""

from __future__ import annotations


class NapariSamError(Exception):
    """Base of all errors raised on purpose by this package."""


class PromptError(NapariSamError, ValueError):
    """A prompt that cannot be answered: NaN, outside the image, lengths that differ, nothing at all."""


class ImageError(NapariSamError, ValueError):
    """An array that is not a picture: wrong shape or dtype, unknown channels, limits that are not a range."""


class CheckpointError(NapariSamError):
    """Weights that cannot be found, downloaded, verified, recognised or loaded."""


class DeviceError(NapariSamError, ValueError):
    """A device or precision that this machine or this model does not have."""


class LabelsError(NapariSamError, ValueError):
    """A labels layer that cannot take masks of the image: other shape, other place, no room for another id."""


class ExportError(NapariSamError, ValueError):
    """A file that cannot be written, or not under that name."""


class JournalError(NapariSamError, ValueError):
    """A journal that cannot be written or read, or that is about another image."""


class TrainingError(NapariSamError, ValueError):
    """A training run that cannot be: a number out of range, an unknown architecture, nothing to go on with."""


class Cancelled(NapariSamError):  # noqa: N818  the field's word; it is not a failure
    """The work was cancelled by its caller."""
