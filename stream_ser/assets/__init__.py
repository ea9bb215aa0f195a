"""Bundled ONNX models, each with its card inside, and the clip that ``stream-ser demo`` plays."""
