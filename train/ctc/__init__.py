"""Connectionist temporal classification: loss, alignment, decoding, and the text they are about."""

from .loss import ctc_loss, ctc_loss_autograd

__all__ = ["ctc_loss", "ctc_loss_autograd"]
