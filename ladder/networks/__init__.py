"""Owns the room `ladder.networks`: what a network is: spec, ladder files, modules, MACs, timm, weights files."""
