"""Characters and colours that views share."""
