"""Owns the room `analysis.show`: from comparisons to text, files, charts and pages."""
