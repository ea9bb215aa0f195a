"""stream-ser: hears a voice and says, as it speaks, which emotion it carries."""

from stream_ser.version import __version__

__all__ = ["__version__"]
