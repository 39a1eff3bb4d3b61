"""Checks of kvshim from outside: by real clients, and beside the servers it stands in for."""
