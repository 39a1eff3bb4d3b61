"""The story by grpcio, with messages of our own."""
