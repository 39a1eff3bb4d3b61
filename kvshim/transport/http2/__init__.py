"""gRPC over HTTP/2, written by hand: a sans-I/O server and the asyncio Protocol that drives it.

From the wire upwards: `frames`, `fields` (HPACK), `request`, `messages`, `stream`, `sender` and
`connection` know bytes and events, no sockets, clock or tasks. `protocol`, `call`, `runner` and
`server` belong to the event loop.
"""
