"""Experiments around the training: classical controls, robustness, plans of runs. ``python -m`` starts each of them."""
