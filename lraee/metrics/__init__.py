"""What is measured: quantization noise, compute, quadrants, intervals and tests."""
