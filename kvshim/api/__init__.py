"""One file per etcd service: requests are validated and converted here, nowhere else."""
