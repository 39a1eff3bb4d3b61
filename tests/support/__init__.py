"""What black-box stories share: a datastore process and a client that knows only the wire."""
