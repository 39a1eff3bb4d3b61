"""bbolt, the file that etcd keeps its data in: written once in order, and read."""
