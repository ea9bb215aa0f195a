"""Where utterances begin and end, against the energy of the clips: voice activity detection's edges, moved.

``python -m stream_ser.train.experiments.edges --data crema-d=PATH --speaker crema-d/1003 --out R.json``

No emotion network takes part. Missed speech and false alarm are shares of the reference time, the latter also where the
network hears a voice in a clip's own quiet; see :func:`stream_ser.train.data.long_streams.speech_span` for the
reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from stream_ser.config import SAMPLE_RATE_HZ
from stream_ser.train.data.labels import load_corpora
from stream_ser.train.data.long_streams import Stream, StreamConfig, streams
from stream_ser.train.evaluation.diarization import Diarization, Span, diarize
from stream_ser.vad.detector import Voice, VoiceDetector

from .command import Command, make_parent, print_table, progress_bar, write_json
from .decider import speakers_of

#: Speakers of the bundled models' training part: no choice here looks at the others.
SPEAKERS = ("crema-d/1003", "crema-d/1018", "crema-d/1041", "crema-d/1068", "ravdess/03")
SNR_DB = (float("inf"), 30.0, 20.0, 10.0, 5.0)
#: How far an utterance's start and end are moved, seconds.
MOVES_S = ((0.0, 0.0), (0.0, -0.05), (0.0, -0.1), (0.0, -0.15), (-0.03, -0.1), (0.03, -0.1))
_LABEL = "speech"


def utterances(voices: Sequence[Voice], chunk: int, late: int) -> list[tuple[int, int]]:
    """First sample and one past the last of each utterance.

    Args:
        voices: of all chunks, in order.
        chunk: samples of one.
        late: samples of speech that were heard before it was known for speech.
    """
    found: list[tuple[int, int]] = []
    speaking = False
    for voice in voices:
        if voice.voiced:
            if speaking:
                found[-1] = found[-1][0], voice.end
            else:
                found.append((max(0, voice.end - chunk - late), voice.end))
            speaking = True
        speaking = speaking and voice.speaking
    return found


def moved(spans: Sequence[tuple[int, int]], start: int, end: int, length: int) -> list[Span]:
    """Utterances with their edges moved by so many samples, none of them empty or in another's place."""
    found: list[Span] = []
    for first, last in spans:
        begin = max(first + start, found[-1].end if found else 0)
        found.append(Span(begin, min(max(last + end, begin + 1), length), _LABEL))
    return found


def _score(stream: Stream, spans: Sequence[tuple[int, int]], move_s: tuple[float, float]) -> Diarization:
    reference = [Span(placed.onset, placed.offset, _LABEL) for placed in stream.placed]
    start, end = (round(seconds * stream.rate) for seconds in move_s)
    return diarize(reference, moved(spans, start, end, stream.samples.size), stream.samples.size)


@click.command(cls=Command)
@click.option("--data", multiple=True, metavar="CORPUS=PATH", help="Corpus, such as crema-d=PATH; repeatable.")
@click.option("--speaker", "chosen", multiple=True, metavar="SPEAKER", help="On this speaker's stream; repeatable.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of the streams.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Results, as JSON.")
def main(data: tuple[str, ...], chosen: tuple[str, ...], seed: int, out: Path) -> None:
    """Move the edges of utterances, under noise of several levels."""
    make_parent(out)
    labels = ("anger", "disgust", "fear", "happy", "neutral", "sad")
    groups = {corpus.name: corpus.clips for corpus in load_corpora(data, labels)}
    clips = speakers_of(groups, chosen or SPEAKERS)
    detector = VoiceDetector(SAMPLE_RATE_HZ)
    late = max(0, round(detector.config.min_speech_s * SAMPLE_RATE_HZ) - detector.chunk_samples)
    rows: list[dict[str, Any]] = []
    with progress_bar("streams", len(SNR_DB)) as advance:
        for snr in SNR_DB:
            errors = dict.fromkeys(MOVES_S, Diarization())
            for stream in streams(clips, SAMPLE_RATE_HZ, StreamConfig(snr_db=snr, seed=seed)):
                detector.reset()
                spans = utterances(detector.push(stream.samples), detector.chunk_samples, late)
                for move in MOVES_S:
                    errors[move] += _score(stream, spans, move)
            for move, found in errors.items():
                missed, false = (part / max(found.reference, 1) for part in (found.missed, found.false_alarm))
                rows.append({"snr_db": str(snr), "move_s": move, "missed": missed, "false_alarm": false})
            advance()
    write_json(out, {"speakers": sorted({clip.speaker for clip in clips}), "results": rows})
    table = [
        [f"{snr:g} dB"]
        + [f"{row['missed']:.3f} + {row['false_alarm']:.3f}" for row in rows if row["snr_db"] == str(snr)]
        for snr in SNR_DB
    ]
    heads = ("SNR", *(f"start {start:+g}, end {end:+g} s" for start, end in MOVES_S))
    print_table("missed + false, as shares of the speech", heads, table)


if __name__ == "__main__":
    main()
