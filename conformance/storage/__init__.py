"""Kubernetes' own suites for its storage and its watch cache, on kvshim and on etcd."""
