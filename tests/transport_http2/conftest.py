"""Stories written for the grpcio transport run on this one too: what clients see is the same."""

import pytest

from kvshim.transport.http2.server import Http2Server
from tests.transport import serving


@pytest.fixture(autouse=True)
def _own_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    """`tests.transport.serving` starts the server that this package is about."""
    monkeypatch.setattr(serving, "GrpcioServer", Http2Server)
