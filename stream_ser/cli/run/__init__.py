"""What commands share while they run."""
