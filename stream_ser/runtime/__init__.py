"""ONNX models at run time."""
