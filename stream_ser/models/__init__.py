"""Torch modules, for users and trainers. The runtime never imports this package: it runs ONNX files."""
