"""Owns the room `ladder.common`: what every room uses: commands, output streams, printable text, YAML files."""
