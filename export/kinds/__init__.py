"""One module for each kind of network."""
