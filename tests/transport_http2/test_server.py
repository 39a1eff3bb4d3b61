"""Addresses, pings, limits, TLS and the end, told by the same stories as of grpcio."""

from tests.transport import test_grpcio_server as server
from tests.transport import test_grpcio_tls as tls
from tests.transport.test_grpcio_tls import authority

OF_GRPCIO_ALONE = {
    "test_the_defaults_are_etcds",
    "test_flags_that_grpcio_cannot_obey_are_refused_by_name",
    "test_cipher_suites_that_come_after_grpc_was_loaded_are_refused",
    "test_cipher_suites_are_obeyed",
}
__all__ = ["authority"]

globals().update(
    {
        name: story
        for module in (server, tls)
        for name, story in vars(module).items()
        if name.startswith("test_") and name not in OF_GRPCIO_ALONE
    }
)
