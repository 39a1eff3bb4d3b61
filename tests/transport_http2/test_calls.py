"""What clients and handlers see of calls, told by the same stories as of the grpcio transport."""

from kvshim.transport.http2.server import Http2Server
from tests.transport import test_grpcio_calls as calls
from tests.transport.serving import serving

SAME = {
    name: story
    for name, story in vars(calls).items()
    if name.startswith("test_") and name != "test_a_compressed_message_is_refused"
}
globals().update(SAME)


async def test_the_stories_are_about_this_transport():
    async with serving() as served:
        assert isinstance(served.server, Http2Server)
        assert len(SAME) > 20
