"""etcdserverpb.KV: ranges, puts, deletes, transactions and compaction."""

from __future__ import annotations

from kvshim.api import validate
from kvshim.api.changes import Changes
from kvshim.api.header import Headers
from kvshim.apply.txn import execute_txn, is_serializable
from kvshim.errors import Compacted
from kvshim.mvcc.ranges import execute_short_range
from kvshim.mvcc.slices import SlicePlan
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.rpc import Call, Later, Method, Reply, SlicedBody, Unary
from kvshim.server.physical import PhysicalCompaction
from kvshim.server.reader import Reader


class KVService:
    """Handlers of KV, but for RangeStream. Event loop."""

    def __init__(
        self,
        *,
        changes: Changes,
        reader: Reader,
        physical: PhysicalCompaction,
        headers: Headers,
        txn_ops_max: int,
    ) -> None:
        self._changes = changes
        self._reader = reader
        self._physical = physical
        self._headers = headers
        self._txn_ops_max = txn_ops_max
        self._known_long: rpc_pb2.RangeRequest | None = None
        """What `short_range` found too long: `range`, which follows, need not look again."""

    def methods(self) -> list[Method]:
        """The service's table."""
        kv = "/etcdserverpb.KV/"
        return [
            Unary(kv + "Range", rpc_pb2.RangeRequest, self.range, at_once=self.short_range),
            Unary(kv + "Put", rpc_pb2.PutRequest, self.put, at_once=self.begin_put),
            Unary(
                kv + "DeleteRange",
                rpc_pb2.DeleteRangeRequest,
                self.delete_range,
                at_once=self.begin_delete_range,
            ),
            Unary(kv + "Txn", rpc_pb2.TxnRequest, self.txn, at_once=self.begin_txn),
            Unary(kv + "Compact", rpc_pb2.CompactionRequest, self.compact),
        ]

    def short_range(self, request: rpc_pb2.RangeRequest, _call: Call) -> Reply | None:
        """`range` of one key or of few, if the store may be read now."""
        validate.check_range(request)
        may_read = request.serializable or self._reader.is_linearizable()
        if not may_read or (request.range_end and self._reader.turn_is_long):
            return None
        reply = self._read_here(request)
        if reply is None:
            self._known_long = request
        return reply

    async def range(self, request: rpc_pb2.RangeRequest, _call: Call) -> Reply:
        """Read a range; the reply is joined from encoded rows, never built of messages."""
        validate.check_range(request)
        if not request.serializable:
            await self._reader.linearizable()
        if request is not self._known_long:
            await self._reader.turn_for_reading()
            if (reply := self._read_here(request)) is not None:
                return reply
        opened = await self._reader.open_range(request)
        header = self._headers.encode(opened.revision)
        if isinstance(opened, SlicePlan):
            return SlicedBody(opened.length(header), self._reader.slices(opened, header))
        return opened.encode(header)

    def _read_here(self, request: rpc_pb2.RangeRequest) -> bytes | None:
        result = self._reader.read_here(lambda view: execute_short_range(view, request))
        return None if result is None else result.encode(self._headers.encode(result.revision))

    def begin_put(self, request: rpc_pb2.PutRequest, _call: Call) -> Later | None:
        """`put`, if only the log has to be waited for; so the other two."""
        validate.check_put(request)
        return self._changes.begin(Command(put=request))

    def begin_delete_range(self, request: rpc_pb2.DeleteRangeRequest, _call: Call) -> Later | None:
        """See `begin_put`."""
        validate.check_delete_range(request)
        return self._changes.begin(Command(delete_range=request))

    def begin_txn(self, request: rpc_pb2.TxnRequest, _call: Call) -> Later | None:
        """See `begin_put`; not for one that only reads."""
        if not validate.check_txn(request, self._txn_ops_max):
            return None
        return self._changes.begin(Command(txn=request))

    async def put(self, request: rpc_pb2.PutRequest, call: Call) -> Reply:
        """Write one key."""
        validate.check_put(request)
        command = Command(put=request)
        return await self._changes.make(command, rpc_pb2.PutResponse, call)

    async def delete_range(self, request: rpc_pb2.DeleteRangeRequest, call: Call) -> Reply:
        """Delete the keys of a range."""
        validate.check_delete_range(request)
        command = Command(delete_range=request)
        return await self._changes.make(command, rpc_pb2.DeleteRangeResponse, call)

    async def txn(self, request: rpc_pb2.TxnRequest, call: Call) -> Reply:
        """Run a transaction: one that only reads skips the log."""
        if validate.check_txn(request, self._txn_ops_max):
            return await self._changes.make(Command(txn=request), rpc_pb2.TxnResponse, call)
        if not is_serializable(request):
            await self._reader.linearizable()
        response = await self._reader.read(lambda view: execute_txn(view, request))
        self._headers.fill(response.header)
        return response

    async def compact(self, request: rpc_pb2.CompactionRequest, call: Call) -> Reply:
        """Forget history up to a revision, at once for readers. `physical` waits, as in etcd, for
        the rows of every compaction so far, even if this one is refused as done before.
        """
        answer: rpc_pb2.CompactionResponse | Compacted
        command = Command(compaction=request)
        try:
            answer = await self._changes.make(command, rpc_pb2.CompactionResponse, call)
        except Compacted as refusal:
            answer = refusal
        if request.physical:
            await self._physical.wait()
        if isinstance(answer, Compacted):
            raise answer
        return answer
