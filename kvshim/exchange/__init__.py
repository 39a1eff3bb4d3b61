"""etcd's own file, in both directions: written from the store, and read into one."""
