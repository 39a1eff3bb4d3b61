"""Programs that use etcd for their real job, at it on kvshim: `make users`."""
