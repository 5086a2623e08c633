"""Owns the room `ladder.training`: how a network is trained: recipe, optimiser, engine, checkpoints, progress."""
