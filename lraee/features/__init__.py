"""Per-layer features of every image and precision, and the Parquet store that keeps them."""
