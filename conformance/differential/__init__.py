"""The same random requests on etcd and on kvshim, every answer compared: see `docs/differences.md`."""
