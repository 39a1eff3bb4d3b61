"""One story, told by clients of three families of gRPC: they must see the same."""
