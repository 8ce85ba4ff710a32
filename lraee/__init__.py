"""LRA-EE: does leaving the network early help a quantized CLIP, and is it quantization that explains it?"""
