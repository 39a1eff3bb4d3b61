"""Users, roles, permissions, passwords and tokens: what etcd's authentication means. No I/O."""
