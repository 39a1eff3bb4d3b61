"""etcdctl, unmodified, on kvshim and on etcd: the same commands, the same answers."""
