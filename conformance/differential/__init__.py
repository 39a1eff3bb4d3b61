"""The same random requests on etcd and kvshim, every answer compared: `docs/differences.md`."""
