"""The card of a model: what it needs and what it can do."""
