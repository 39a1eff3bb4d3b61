"""etcd's API as JSON over HTTP, as grpc-gateway maps it: the handlers are those of gRPC.

`routes` names the paths, `mapping` turns JSON into messages and back, `values` cuts a stream of
JSON into values, `calls` is what handlers see of a request, `gateway` runs them.
"""
