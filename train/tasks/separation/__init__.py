"""Separation: sinusoids and mixtures of voices, metrics, training. Sinusoids and pictures need no torch."""
