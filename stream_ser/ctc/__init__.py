"""Connectionist temporal classification without torch: decoding, alignment, and the text they are about.

Everything takes numpy arrays as well as tensors. The loss is in ``stream_ser.train.losses.ctc``.
"""

from __future__ import annotations

from stream_ser.ctc.alignment import Alignment, Word, ctc_alignment, words
from stream_ser.ctc.beam import Hypothesis, Scorer, beam_search
from stream_ser.ctc.greedy import GreedyDecoder, Token, greedy
from stream_ser.ctc.lm import Fusion
from stream_ser.ctc.ngram import NgramModel
from stream_ser.ctc.vocabulary import ENGLISH, Vocabulary

__all__ = [
    "ENGLISH",
    "Alignment",
    "Fusion",
    "GreedyDecoder",
    "Hypothesis",
    "NgramModel",
    "Scorer",
    "Token",
    "Vocabulary",
    "Word",
    "beam_search",
    "ctc_alignment",
    "greedy",
    "words",
]
