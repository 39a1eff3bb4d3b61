"""A replicated log, usable without kvshim."""
