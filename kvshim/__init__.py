"""kvshim: an etcd v3 server whose store is SQLite, replicated by Raft."""

__version__ = "0.1.0"
