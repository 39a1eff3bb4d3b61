"""Measurements of kvshim beside etcd: `python -m bench` from the repository root.

Both servers get the same load from the same Go program, one server at a time, in turns; so a busy
machine disturbs both alike, and the ratios of one run mean more than its absolute figures.
"""
