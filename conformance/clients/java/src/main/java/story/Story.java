package story;

import static java.nio.charset.StandardCharsets.UTF_8;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.api.KVGrpc;
import io.etcd.jetcd.api.PutRequest;
import io.etcd.jetcd.api.PutResponse;
import io.etcd.jetcd.kv.GetResponse;
import io.etcd.jetcd.kv.TxnResponse;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.PutOption;
import io.grpc.ClientInterceptor;
import io.grpc.Metadata;
import io.grpc.stub.MetadataUtils;
import java.util.Arrays;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;

/**
 * Tells ../story.txt with grpc-java, through jetcd where it reaches.
 *
 * <p>Arguments: ENDPOINT [CA CERTIFICATE KEY], on an empty store.
 */
public final class Story {
    static final long SECONDS_MAX = 60;

    private Story() {}

    public static void main(String[] args) throws Exception {
        try (Connection connection = new Connection(args)) {
            KV kv = connection.client.getKVClient();
            keys(kv);
            pages(kv);
            Streams.watch(connection);
            Streams.lease(connection);
            Streams.compaction(connection);
            large(kv);
            leader(connection);
            Streams.deadline(connection);
            Streams.cancelled(connection);
        }
        System.exit(0);
    }

    private static void keys(KV kv) throws Exception {
        long revision = done(kv.put(bytes("greeting"), bytes("hello"))).getHeader().getRevision();
        say("put: revision %d", revision);
        GetResponse got = done(kv.get(bytes("greeting")));
        KeyValue it = got.getKvs().get(0);
        say("get: %s=%s created %d modified %d version %d, count %d, more %b",
                it.getKey(), it.getValue(), it.getCreateRevision(), it.getModRevision(),
                it.getVersion(), got.getCount(), got.isMore());
        TxnResponse first = guarded(kv, revision);
        TxnResponse again = guarded(kv, revision);
        KeyValue found = again.getGetResponses().get(0).getKvs().get(0);
        say("guarded: first %b at revision %d, again %b, found %s modified %d",
                first.isSucceeded(), first.getHeader().getRevision(), again.isSucceeded(),
                found.getValue(), found.getModRevision());
    }

    private static TxnResponse guarded(KV kv, long revision) throws Exception {
        ByteSequence key = bytes("greeting");
        return done(kv.txn()
                .If(new Cmp(key, Cmp.Op.EQUAL, CmpTarget.modRevision(revision)))
                .Then(Op.put(key, bytes("hello again"), PutOption.DEFAULT))
                .Else(Op.get(key, GetOption.DEFAULT))
                .commit());
    }

    private static void pages(KV kv) throws Exception {
        for (int half = 0; half < 2; half++) {
            Op[] puts = new Op[125];
            for (int i = 0; i < puts.length; i++) {
                ByteSequence key = bytes(String.format("page/%03d", 125 * half + i));
                puts[i] = Op.put(key, bytes("x"), PutOption.DEFAULT);
            }
            done(kv.txn().Then(puts).commit());
        }
        ByteSequence start = bytes("page/");
        long revision = 0;
        boolean more = true;
        while (more) {
            GetOption page = GetOption.builder()
                    .withRange(bytes("page0"))
                    .withLimit(100)
                    .withRevision(revision)
                    .build();
            GetResponse got = done(kv.get(start, page));
            int count = got.getKvs().size();
            say("page: %d keys from %s, count %d, more %b",
                    count, got.getKvs().get(0).getKey(), got.getCount(), got.isMore());
            revision = got.getHeader().getRevision();
            more = got.isMore();
            start = got.getKvs().get(count - 1).getKey().concat(bytes("\0"));
        }
    }

    private static void large(KV kv) throws Exception {
        byte[] value = new byte[1 << 20];
        Arrays.fill(value, (byte) 7);
        for (int i = 0; i < 9; i++) {
            done(kv.put(bytes("large/" + i), ByteSequence.from(value)));
        }
        GetResponse got = done(kv.get(bytes("large/"), GetOption.builder().isPrefix(true).build()));
        int sevens = 0;
        for (KeyValue each : got.getKvs()) {
            for (byte one : each.getValue().getBytes()) {
                sevens += one == 7 ? 1 : 0;
            }
        }
        say("large: %d values, %d bytes of 7", got.getKvs().size(), sevens);
    }

    private static void leader(Connection connection) {
        Metadata headers = new Metadata();
        headers.put(Metadata.Key.of("hasleader", Metadata.ASCII_STRING_MARSHALLER), "true");
        ClientInterceptor attach = MetadataUtils.newAttachHeadersInterceptor(headers);
        PutRequest request = PutRequest.newBuilder()
                .setKey(Streams.raw("led"))
                .setValue(Streams.raw("x"))
                .build();
        PutResponse put = KVGrpc.newBlockingStub(connection.channel)
                .withInterceptors(attach)
                .withDeadlineAfter(SECONDS_MAX, TimeUnit.SECONDS)
                .put(request);
        say("leader: put at revision %d", put.getHeader().getRevision());
    }

    static ByteSequence bytes(String text) {
        return ByteSequence.from(text, UTF_8);
    }

    static <T> T done(Future<T> future) throws Exception {
        return future.get(SECONDS_MAX, TimeUnit.SECONDS);
    }

    static void say(String format, Object... facts) {
        System.out.println(String.format(format, facts));
    }
}
