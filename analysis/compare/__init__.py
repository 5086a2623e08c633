"""Owns the room `analysis.compare`: which runs may be compared, and what their differences are worth."""
