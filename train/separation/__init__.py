"""Separation: sinusoids and mixtures of voices, metrics, training. Making and reading sets needs no torch."""
