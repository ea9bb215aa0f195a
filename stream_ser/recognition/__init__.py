"""The streaming recogniser: buffering, prediction, decisions."""
