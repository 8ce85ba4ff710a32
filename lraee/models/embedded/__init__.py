"""The embedded CLIP: an open_clip model configuration, its weights, its model card, and the training that made it."""
