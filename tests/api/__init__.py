"""Stories of the etcd v3 API, told over gRPC to a real server process."""
