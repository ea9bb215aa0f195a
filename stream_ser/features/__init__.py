"""Log-mel features, framing, normalisation."""
