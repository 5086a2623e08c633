"""Owns the charts: a module each, from rows to a matplotlib Figure; pyplot and rcParams are left alone."""
