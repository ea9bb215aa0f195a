"""The few exceptions a user meets.

Each message is one line that says what was found, what was expected and what to do about it. The command line
prints it and exits with ``exit_code``; a library user catches :class:`StreamSerError`.
"""


class StreamSerError(Exception):
    """Base of everything that stream-ser raises for a user's mistake or a broken input."""

    exit_code = 2


class AudioError(StreamSerError):
    """An audio file or stream that cannot be decoded, is empty, or holds NaN or infinite samples."""


class DeviceError(StreamSerError):
    """No PortAudio library, no input device, or a device that could not be opened."""


class ModelError(StreamSerError):
    """An ONNX file that is missing, corrupted, without a card, or with a card this version cannot read."""


class ProviderError(StreamSerError):
    """The execution provider that was asked for is not the one the session really got."""


class VoiceError(StreamSerError):
    """A voice profile that is missing, damaged or of another model, or a model without a memory of a voice."""


class OverloadError(StreamSerError):
    """More audio, or more streams, than there is room for; nothing of it was taken."""


class OutputError(StreamSerError):
    """An output that cannot be written."""


class DataError(StreamSerError):
    """A corpus whose folder, files or labels are not as its official layout says."""


class TrainError(StreamSerError):
    """A training, checkpoint or export request that cannot be carried out as asked."""
