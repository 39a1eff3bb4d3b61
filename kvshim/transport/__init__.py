"""Bytes on sockets to calls of `kvshim.rpc` methods: listening, TLS, and the gRPC servers.

Only the modules named `grpcio_*` import grpc; `http2` is a server of our own; the others serve
both.
"""
