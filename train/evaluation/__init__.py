"""Scores, tables, plots."""
