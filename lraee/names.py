"""Names that the configuration and the tables share."""

FP32 = "fp32"
"""Name of the unquantized precision, beside the quantizers' own."""
