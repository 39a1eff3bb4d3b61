"""Committed commands become changes of the store: deterministic, in log order, on one thread."""
