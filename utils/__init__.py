"""What every part shares: files, the command line, pictures, ONNX sessions."""
