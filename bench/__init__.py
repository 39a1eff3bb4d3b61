"""Measurements of kvshim beside etcd: `python -m bench` from the repository root.

Both servers get the same load from the same program, one server at a time, in turns; so a busy
machine disturbs both alike, and the ratios of one run mean more than its absolute figures.

`goals` is the table of figures and goals, `measure` has a file for each subject, `trial` is what a
measurement is given, `runner` lets servers take turns, `figures` makes medians and verdicts,
`report` and `chart` show them. `ha` and `demo_ha` are commands of their own.
"""
