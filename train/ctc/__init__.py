"""Connectionist temporal classification: loss, alignment, decoding, and the text they are about.

Loss and checks are made of torch; all else of numpy alone, and takes arrays as well as tensors.
"""

from .alignment import Alignment, Word, ctc_alignment, words
from .beam import Hypothesis, Scorer, beam_search
from .greedy import GreedyDecoder, Token, greedy
from .lm import Fusion
from .loss import ctc_loss, ctc_loss_autograd
from .ngram import NgramModel
from .rates import ErrorRates, error_rates
from .vocabulary import ENGLISH, Vocabulary

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
