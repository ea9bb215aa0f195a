"""What each kind of network is trained for."""
