"""Export: from a checkpoint to one verified ONNX file with its card. Installed as ``stream_ser.export``."""
