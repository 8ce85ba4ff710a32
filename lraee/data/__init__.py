"""Labelled images: sources, splits, and batches of pixels."""
