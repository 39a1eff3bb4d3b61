package story;

import io.etcd.jetcd.Client;
import io.grpc.ManagedChannel;
import io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.NettyChannelBuilder;
import io.netty.handler.ssl.SslContext;
import java.io.File;
import java.net.URI;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLException;

/** jetcd's client, and a channel of our own for what jetcd hides: both by the same transport. */
final class Connection implements AutoCloseable {
    private static final int REPLY_BYTES_MAX = 64 << 20;

    final Client client;
    final ManagedChannel channel;

    /** ENDPOINT, and with TLS the files of the CA, the client's certificate and its key (PKCS 8). */
    Connection(String[] args) throws SSLException {
        URI endpoint = URI.create(args[0]);
        SslContext secured = args.length == 4 ? secured(args[1], args[2], args[3]) : null;
        client = Client.builder()
                .endpoints(endpoint)
                .sslContext(secured)
                .maxInboundMessageSize(REPLY_BYTES_MAX)
                .build();
        NettyChannelBuilder builder =
                NettyChannelBuilder.forAddress(endpoint.getHost(), endpoint.getPort());
        channel = secured == null
                ? builder.usePlaintext().build()
                : builder.sslContext(secured).build();
    }

    private static SslContext secured(String ca, String certificate, String key)
            throws SSLException {
        return GrpcSslContexts.forClient()
                .trustManager(new File(ca))
                .keyManager(new File(certificate), new File(key))
                .build();
    }

    @Override
    public void close() throws InterruptedException {
        client.close();
        channel.shutdownNow().awaitTermination(Story.SECONDS_MAX, TimeUnit.SECONDS);
    }
}
