"""Corpora, splits, windows."""
