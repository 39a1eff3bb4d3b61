"""etcd's own recipes (locks, elections, queues, barriers) under contention."""
