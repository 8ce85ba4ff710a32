"""Quantization by simulation, exact in the integers."""
