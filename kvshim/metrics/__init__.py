"""Prometheus metrics of one node, under etcd's names wherever the meaning is the same.

A bottom room: every other room may import it, it imports only errors and config. `registry.Metrics`
holds all of them; there is no global registry.
"""
