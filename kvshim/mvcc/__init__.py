"""Revisions, ranges, events and compaction: what etcd calls its MVCC store."""
