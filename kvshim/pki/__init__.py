"""Who belongs to the cluster: its own CA, members' certificates, join tokens."""
