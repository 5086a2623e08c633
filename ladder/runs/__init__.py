"""Owns the room `ladder.runs`: what one run is: config schema, resolving, run folder, session, tracking, outcome."""
