"""The transport of our own: its parts without sockets, and whole with clients of other makers."""
