"""Training: corpora, splits, augmentation, the loop and its reports. Installed as ``stream_ser.train``."""
