"""Connectionist temporal classification: loss, alignment, decoding, and the text they are about.

Loss and checks are made of torch; all else is that of ``stream_ser.ctc``, and takes tensors as well as arrays.
"""

from stream_ser.ctc import (
    ENGLISH,
    Alignment,
    Fusion,
    GreedyDecoder,
    Hypothesis,
    NgramModel,
    Scorer,
    Token,
    Vocabulary,
    Word,
    beam_search,
    ctc_alignment,
    greedy,
    words,
)

from .loss import ctc_loss, ctc_loss_autograd
from .rates import ErrorRates, error_rates

__all__ = [
    "ENGLISH",
    "Alignment",
    "ErrorRates",
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
    "ctc_loss",
    "ctc_loss_autograd",
    "error_rates",
    "greedy",
    "words",
]
