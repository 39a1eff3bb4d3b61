package story;

import static java.nio.charset.StandardCharsets.UTF_8;
import static story.Story.bytes;
import static story.Story.done;
import static story.Story.say;

import com.google.protobuf.ByteString;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.Lease;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.api.WatchCreateRequest;
import io.etcd.jetcd.api.WatchGrpc;
import io.etcd.jetcd.api.WatchRequest;
import io.etcd.jetcd.common.exception.CompactedException;
import io.etcd.jetcd.lease.LeaseKeepAliveResponse;
import io.etcd.jetcd.lease.LeaseTimeToLiveResponse;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.LeaseOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.support.CloseableClient;
import io.etcd.jetcd.watch.WatchEvent;
import io.grpc.Context;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** The chapters about watches and leases, and those whose calls do not end by themselves. */
final class Streams {
    private static final String CREATED = "created";

    private Streams() {}

    static void watch(Connection connection) throws Exception {
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        KV kv = connection.client.getKVClient();
        try (Watch.Watcher watcher = follow(connection, "watched", 6, seen)) {
            done(kv.put(bytes("watched"), bytes("1")));
            done(kv.put(bytes("watched"), bytes("2")));
            done(kv.delete(bytes("watched")));
            for (int i = 0; i < 3; i++) {
                say("watch: %s", next(seen));
            }
        }
    }

    static void lease(Connection connection) throws Exception {
        Lease leases = connection.client.getLeaseClient();
        long id = done(leases.grant(60)).getID();
        PutOption held = PutOption.builder().withLeaseId(id).build();
        done(connection.client.getKVClient().put(bytes("leased"), bytes("x"), held));
        CompletableFuture<Long> kept = new CompletableFuture<>();
        CloseableClient alive = leases.keepAlive(id, new StreamObserver<>() {
            @Override
            public void onNext(LeaseKeepAliveResponse answer) {
                kept.complete(answer.getTTL());
            }

            @Override
            public void onError(Throwable failure) {
                kept.completeExceptionally(failure);
            }

            @Override
            public void onCompleted() {}
        });
        long ttl = done(kept);
        alive.close();
        LeaseOption keys = LeaseOption.builder().withAttachedKeys().build();
        LeaseTimeToLiveResponse left = done(leases.timeToLive(id, keys));
        say("lease: granted %d, kept alive %d, holds %s",
                left.getGrantedTTL(), ttl, left.getKeys().get(0));
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        try (Watch.Watcher watcher = follow(connection, "leased", 10, seen)) {
            done(leases.revoke(id));
            say("lease: revoked, %s", next(seen));
        }
    }

    static void compaction(Connection connection) throws Exception {
        KV kv = connection.client.getKVClient();
        done(kv.compact(8));
        try {
            done(kv.get(bytes("greeting"), GetOption.builder().withRevision(3).build()));
            throw new IllegalStateException("a read at a compacted revision is answered");
        } catch (ExecutionException failure) {
            say("compacted: %s", Status.fromThrowable(failure).getDescription());
        }
        CompletableFuture<Throwable> ended = new CompletableFuture<>();
        WatchOption past = WatchOption.builder().withRevision(3).build();
        try (Watch.Watcher watcher = connection.client.getWatchClient()
                .watch(bytes("greeting"), past, answer -> {}, ended::complete)) {
            CompactedException why = (CompactedException) done(ended);
            say("compacted: watch cancelled, compacted at %d", why.getCompactedRevision());
        }
    }

    /** This and the next look at the stream itself, which jetcd hides. */
    static void deadline(Connection connection) throws Exception {
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        create(WatchGrpc.newStub(connection.channel)
                .withDeadlineAfter(2, TimeUnit.SECONDS), seen);
        say("deadline: %s", next(seen));
    }

    static void cancelled(Connection connection) throws Exception {
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        Context.CancellableContext context = Context.current().withCancellation();
        context.call(() -> {
            create(WatchGrpc.newStub(connection.channel), seen);
            return null;
        });
        context.cancel(null);
        String code = next(seen);
        long count = done(connection.client.getKVClient().get(bytes("greeting"))).getCount();
        say("cancel: %s, then count %d", code, count);
    }

    static ByteString raw(String text) {
        return ByteString.copyFromUtf8(text);
    }

    /** Opens a watch and waits for the server's word that it stands; then comes how it ends. */
    private static void create(WatchGrpc.WatchStub stub, BlockingQueue<String> seen)
            throws InterruptedException {
        StreamObserver<WatchRequest> requests = stub.watch(new StreamObserver<>() {
            @Override
            public void onNext(io.etcd.jetcd.api.WatchResponse answer) {
                seen.add(answer.getCreated() ? CREATED : "unexpected");
            }

            @Override
            public void onError(Throwable failure) {
                seen.add(Status.fromThrowable(failure).getCode().name());
            }

            @Override
            public void onCompleted() {
                seen.add("ended");
            }
        });
        requests.onNext(WatchRequest.newBuilder()
                .setCreateRequest(WatchCreateRequest.newBuilder().setKey(raw("silent")))
                .build());
        if (!next(seen).equals(CREATED)) {
            throw new IllegalStateException("the watch is not created");
        }
    }

    private static Watch.Watcher follow(
            Connection connection, String key, long revision, BlockingQueue<String> seen) {
        WatchOption option = WatchOption.builder()
                .withPrevKV(true)
                .withRequireLeader(true)
                .withRevision(revision)
                .build();
        return connection.client.getWatchClient().watch(bytes(key), option, answer -> {
            answer.getEvents().forEach(event -> seen.add(describe(event)));
        });
    }

    private static String describe(WatchEvent event) {
        String what = event.getEventType().name();
        if (event.getEventType() == WatchEvent.EventType.PUT) {
            what += " " + event.getKeyValue().getValue().toString(UTF_8);
        }
        // jetcd has no absent value, only one that was never created.
        boolean isNew = event.getPrevKV().getCreateRevision() == 0;
        String before = isNew ? "none" : event.getPrevKV().getValue().toString(UTF_8);
        return String.format(
                "%s at %d, before %s", what, event.getKeyValue().getModRevision(), before);
    }

    private static String next(BlockingQueue<String> seen) throws InterruptedException {
        String text = seen.poll(Story.SECONDS_MAX, TimeUnit.SECONDS);
        return text == null ? "nothing in time" : text;
    }
}
