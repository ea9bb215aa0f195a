"""Separation of voices."""
