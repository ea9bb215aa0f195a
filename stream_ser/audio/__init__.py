"""Audio files: reading, writing, resampling."""
