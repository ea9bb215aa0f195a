"""What libsndfile decodes (FLAC, Ogg, MP3 and rarer formats), with what it does not say about damage made good."""

from __future__ import annotations

import os
import re
from typing import BinaryIO, cast

import numpy as np
import soundfile

from stream_ser.audio.wav import UNKNOWN_SIZE_BYTES, Samples, seconds
from stream_ser.errors import AudioError

_MP3_FORMATS = frozenset({"MP3", "MPEG"})
_MP3_FRAME_SAMPLES = 1152
#: More than junk and the first frame, in which encoders state the length, take after the ID3 tags.
_MP3_HEAD_BYTES = 4096
_ID3_BYTES, _ID3V1_BYTES = 10, 128
#: Largest Ogg page: 27 bytes of header, 255 of segment table, 255 * 255 of data.
_OGG_PAGE_BYTES = 65_307
_OGG_LAST_PAGE = 0x04
#: What a file offset may be.
_LAST_POSITION = 2**62


class _SequentialSoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """soundfile seeks to where it is after every read, which breaks MP3's bit reservoir. Not here."""

    def seekable(self) -> bool:
        return False


class _Stream:
    """A stream as libsndfile is to see it: whatever a damaged header makes it seek or read, nothing is raised.

    libsndfile calls back from C, where an exception would be printed and forgotten. A file called ``.raw``, which
    soundfile would not open without a rate, has no name here.

    Args:
        stream: seekable.
        position: where reading begins.

    Attributes:
        ended: something was asked for past the end.
        error: what the disk said; the stream has ended there.
    """

    def __init__(self, stream: BinaryIO, position: int) -> None:
        self._stream = stream
        self._position = position
        self._real_bytes = stream.seek(0, os.SEEK_END)
        stream.seek(position)
        self.size_bytes = self._real_bytes
        self.ended = False
        self.error: OSError | None = None

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_CUR: self._position, os.SEEK_END: self.size_bytes}.get(whence, 0)
        self._position = min(max(origin + offset, 0), _LAST_POSITION)
        return self._position

    def read(self, size: int) -> bytes:
        data = b""
        there = min(size, self._real_bytes - self._position)
        if there > 0 and self.error is None:
            try:
                self._stream.seek(self._position)
                data = self._stream.read(there)
            except OSError as error:
                self.error = error
        self._position += len(data)
        self.ended = len(data) < size
        return data


class _Endless(_Stream):
    """A stream that says it is far longer than it is, and ends all the same.

    Where an MP3 does not state its length, libsndfile multiplies the file's size by the first frame's bit rate
    and reads no further than that: with a variable rate, most of the audio may be left out, without a word.
    """

    SIZE_BYTES = 2**40

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream, 0)
        self.size_bytes = self.SIZE_BYTES

    def read(self, size: int) -> bytes:
        if self._position == self.SIZE_BYTES - _ID3V1_BYTES:  # the decoder looks for a tag there, and insists
            return bytes(size)
        return super().read(size)


class SndfileReader:
    """Decodes all that libsndfile can.

    Args:
        stream: seekable.
        name: what messages call it.

    Attributes:
        frames: what the header announces, None where it does not.
        warning: filled at the end: what was wrong with a file that could be used all the same.

    Raises:
        AudioError: no audio that can be decoded.
        OSError: the stream cannot be read.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._endless: _Endless | None = None
        start = stream.tell()
        self._seen = _Stream(stream, start)
        try:
            self._file = _SequentialSoundFile(self._seen)
            if self._file.format in _MP3_FORMATS and not _mp3_states_its_length(stream, start):
                self._file.close()
                self._seen = self._endless = _Endless(stream)
                self._file = _SequentialSoundFile(self._endless)
        except soundfile.LibsndfileError as error:
            if self._seen.error is not None:
                raise self._seen.error from None
            raise AudioError(
                f"{name}: no audio that can be decoded ({error.error_string.strip() or 'damaged header'}); "
                f"expected WAV, FLAC, OGG or MP3: convert it, for example with ffmpeg -i INPUT output.wav"
            ) from error
        self.sample_rate, self.channels = int(self._file.samplerate), int(self._file.channels)
        self.frames: int | None = None
        if self._endless is None and 0 < self._file.frames < 2**62:
            self.frames = int(self._file.frames)
        self.warning: str | None = None
        self._read_frames = 0
        self._failed = False

    def read(self, frames: int) -> Samples:
        """At most ``frames`` frames, ``(time, channel)``; none at the end.

        Raises:
            OSError: the stream cannot be read.
        """
        if self._failed:
            return np.zeros((0, self.channels), np.float32)
        # NaN marks what was not decoded: when libsndfile fails, soundfile does not tell how far it got.
        out = np.full((frames, self.channels), np.nan, np.float32)
        try:
            samples = cast(Samples, self._file.read(out=out))
        except soundfile.LibsndfileError as error:
            self._failed = True
            self._raise_what_the_disk_said()
            missing = np.isnan(out).any(axis=1)
            samples = out[: int(missing.argmax()) if missing.any() else frames]
            self._read_frames += len(samples)
            cut = self._endless is not None and self._endless.ended
            what = "truncated" if cut else f"decoding failed ({error.error_string.strip() or 'damaged data'})"
            self.warning = self._shortage(what)
            return samples
        self._raise_what_the_disk_said()
        self._read_frames += len(samples)
        if not len(samples):
            self._check_end()
        return samples

    def _raise_what_the_disk_said(self) -> None:
        if self._seen.error is not None:
            raise self._seen.error

    def _shortage(self, what: str) -> str:
        announced = "" if self.frames is None else f"header announces {seconds(self.frames, self.sample_rate)}, "
        return f"{what}: {announced}{seconds(self._read_frames, self.sample_rate)} could be read"

    def _check_end(self) -> None:
        # MP3 pads to whole MPEG frames and its header may count them either way.
        slack = 2 * _MP3_FRAME_SAMPLES if self._file.format in _MP3_FORMATS else 0
        if self.frames is not None and self._read_frames < self.frames - slack:
            self.warning = self._shortage("truncated")
            return
        if self._endless is not None and not self._endless.ended:
            self.warning = self._shortage("decoding stopped before the end of the file")
            return
        if self._file.format == "OGG" and (reason := _ogg_shortage(self._stream)):
            self.warning = f"{reason}, {seconds(self._read_frames, self.sample_rate)} could be read"
            return
        # AIFF, AU and W64: libsndfile mends the length silently and says so in its log only.
        for announced, real in re.findall(r": (\d+) \(should be (\d+)\)", self._file.extra_info):
            if int(announced) > int(real) + 1 and int(announced) < UNKNOWN_SIZE_BYTES:
                self.warning = f"truncated: header announces {announced} bytes, the file has {real}"
                return


def _mp3_states_its_length(stream: BinaryIO, start: int) -> bool:
    """Whether the first frame counts the others, as LAME's Info and Xing and Fraunhofer's VBRI do."""
    here = stream.tell()
    position = stream.seek(start)
    while (tag := stream.read(_ID3_BYTES)).startswith(b"ID3") and len(tag) == _ID3_BYTES:
        size = 0
        for byte in tag[6:]:
            size = size << 7 | byte & 0x7F  # seven bits a byte
        position = stream.seek(position + _ID3_BYTES + size)
    stream.seek(position)
    head = stream.read(_MP3_HEAD_BYTES)
    stream.seek(here)
    found = re.search(rb"VBRI|(?:Xing|Info)...[\x01\x03\x05\x07\x09\x0b\x0d\x0f](?!\0{4})", head, re.DOTALL)
    return found is not None


def _ogg_shortage(stream: BinaryIO) -> str | None:
    """What is amiss with the last page of an Ogg stream, which ought to be whole and to say that it is the last."""
    here = stream.tell()
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _OGG_PAGE_BYTES))
    tail = stream.read()
    stream.seek(here)
    at = tail.rfind(b"OggS\0")  # with the version of the format
    if at < 0:
        return None
    page = tail[at:]
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if len(page) < 27 or len(segments) < page[26] or len(page) < 27 + len(segments) + sum(segments):
        return "truncated: the last Ogg page is cut off"
    if not page[5] & _OGG_LAST_PAGE:  # some programs never write it
        return "perhaps truncated: the last Ogg page does not say that it is the last"
    return None
