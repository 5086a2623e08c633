"""Owns the room `analysis.read`: from run folders, packed studies, W&B and published numbers to frames."""
