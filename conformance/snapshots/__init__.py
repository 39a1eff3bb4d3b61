"""Data moves between kvshim and etcd, in etcd's own files, and nothing of it changes."""
