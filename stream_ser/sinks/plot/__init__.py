"""The picture of a recording."""
