"""From CTC output to lines of words."""
