"""The wiring: one node put together from its rooms, started, watched over and stopped."""
