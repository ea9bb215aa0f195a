"""Random streams of predictions for properties of the decider."""

from __future__ import annotations

from hypothesis import strategies as st

from stream_ser.config import DeciderConfig
from stream_ser.events import Change, Prediction

RATE = 16_000
HOP = 4_000
LABELS = ("a", "b", "c")
A, B, EVEN = (0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.34, 0.33, 0.33)


@st.composite
def streams(draw: st.DrawFn) -> list[Prediction]:
    """Utterances of random posteriors between pauses, with a voice, as the pipeline gives them."""
    window = draw(st.sampled_from([None, 12 * HOP]))
    detected = draw(st.booleans())
    found: list[Prediction] = []
    hop = 0
    for _ in range(draw(st.integers(0, 4))):
        pause = draw(st.integers(0, 4))
        voice_end: int | None = None
        for _ in range(pause):
            hop += 1
            found.append(Prediction(max(0, hop * HOP - 12 * HOP), hop * HOP, (), -70.0))
        start = hop * HOP + draw(st.integers(0, HOP - 1))
        length = draw(st.integers(1, 16))
        for _ in range(length):
            hop += 1
            end = hop * HOP
            voice_end = end - draw(st.integers(0, HOP // 4))
            first = start if window is None else max(start, end - window)
            row = draw(st.sampled_from([A, B, EVEN, (0.2, 0.2, 0.6), ()]))
            voice = (first, max(voice_end, first + 1)) if detected else None
            at = draw(st.sampled_from([None, None, start + length * HOP // 2, max(0, end - 6 * HOP)]))
            changes = () if at is None else (Change(at, draw(st.sampled_from([A, B, EVEN]))),)
            found.append(Prediction(first, end, row, -20.0, voice=voice, changes=changes))
    return found


CONFIGS = st.builds(
    DeciderConfig,
    abstain_below=st.sampled_from([0.0, 0.2, 0.5, 0.9]),
    listen_s=st.sampled_from([0.0, 1.2]),
    hold_s=st.sampled_from([0.0, 0.4]),
    switch_cost=st.sampled_from([0.0, 1.0]),
    min_duration_s=st.sampled_from([0.0, 0.3, 0.8]),
    silence_s=st.sampled_from([0.0, 0.25, 0.5]),
    hangover_s=st.sampled_from([0.0, 0.1]),
    limit_s=st.sampled_from([2.0, 30.0]),
    onset_temperature=st.sampled_from([1.0, 2.0]),
)
