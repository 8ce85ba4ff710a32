"""Exits: heads on intermediate layers, gates, thresholds, and routing. Everything works on cached arrays."""
