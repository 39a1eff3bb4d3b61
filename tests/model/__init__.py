"""etcd in memory, as plain as it can be, and the production rooms that are held against it."""
