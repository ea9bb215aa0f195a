"""``--plot``: what the picture needs besides events, which is the audio and its log-mel columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stream_ser.config import FeatureConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stream_ser.sinks.plot.picture import Plot


def plot_sink(path: Path, place: Callable[[str], Path], features: FeatureConfig) -> Plot:
    """The sink that draws; see :class:`stream_ser.sinks.plot.picture.Plot`.

    Raises:
        OutputError: matplotlib is missing, or the suffix names no picture.
    """
    from stream_ser.features.framing import Framer
    from stream_ser.features.log_mel import LogMel
    from stream_ser.sinks.plot.picture import Plot, check

    check(path)
    log_mel = LogMel(features)

    def new_stage() -> Callable[[NDArray[np.float32]], list[NDArray[np.float32]]]:
        framer = Framer(features.n_fft, features.hop_length)
        return lambda samples: [log_mel(frames.values) for frames in framer.push(samples)]

    return Plot(place, new_stage, features)
