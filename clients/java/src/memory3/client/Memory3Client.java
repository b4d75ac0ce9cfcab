package memory3.client;

import io.grpc.CallCredentials;
import io.grpc.CallOptions;
import io.grpc.ClientInterceptors;
import io.grpc.Channel;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.StreamObserver;
import java.io.File;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import javax.net.ssl.SSLException;
import memory3.v1.Decoder.GenerateRequest;
import memory3.v1.Decoder.GenerateResponse;
import memory3.v1.DecoderServiceGrpc;
import memory3.v1.Retriever.AddDocumentResult;
import memory3.v1.Retriever.AddDocumentsRequest;
import memory3.v1.Retriever.AddDocumentsResponse;
import memory3.v1.Retriever.Bank;
import memory3.v1.Retriever.CreateBankRequest;
import memory3.v1.Retriever.Document;
import memory3.v1.Retriever.Query;
import memory3.v1.Retriever.SearchHit;
import memory3.v1.Retriever.SearchRequest;
import memory3.v1.RetrieverServiceGrpc;

/**
 * Adds documents to a bank, searches it, and generates text that reads the bank's memories while it
 * is written.
 *
 * <p>Every method blocks, throws {@link Memory3Exception}, and may be called from many threads at
 * once.
 */
public final class Memory3Client implements AutoCloseable {
  private static final int MAX_MESSAGE_BYTES = 64 << 20;
  // Servers take pings half as far apart for a flood.
  private static final int KEEPALIVE_SECONDS = 60;
  // Calls with one answer are tried again while nothing answers; streams are the caller's to begin
  // again.
  private static final Map<String, Object> SERVICE_CONFIG =
      Map.of(
          "loadBalancingConfig", List.of(Map.of("round_robin", Map.of())),
          "methodConfig",
              List.of(
                  Map.of(
                      "name", List.of(retried("CreateBank"), retried("Search")),
                      "retryPolicy",
                          Map.of(
                              "maxAttempts", 5.0,
                              "initialBackoff", "0.05s",
                              "maxBackoff", "1s",
                              "backoffMultiplier", 2.0,
                              "retryableStatusCodes", List.of("UNAVAILABLE")))));

  private final List<ManagedChannel> channels = new ArrayList<>();
  private final Duration timeout;
  private final RetrieverServiceGrpc.RetrieverServiceBlockingStub retriever;
  private final RetrieverServiceGrpc.RetrieverServiceStub retrieverStreams;
  private final DecoderServiceGrpc.DecoderServiceBlockingStub decoder;

  /**
   * Where the services are.
   *
   * @param decoder gRPC target of the decoder, such as {@code dns:///decoder:7300}
   * @param retriever gRPC target of the retriever
   * @param token sent as a bearer token with every call, needs certificates; null for none
   * @param rootCertificates a file in PEM, switches TLS on; null for plaintext
   * @param timeout how long a call may take
   */
  public record Options(
      String decoder, String retriever, String token, File rootCertificates, Duration timeout) {
    public Options {
      if (token != null && rootCertificates == null) {
        throw new IllegalArgumentException(
            "a token would travel in the open: give rootCertificates too");
      }
    }

    /** A stack on this machine, without TLS. */
    public static Options local() {
      return at("127.0.0.1:7300", "127.0.0.1:7301");
    }

    /** A stack without TLS. */
    public static Options at(String decoder, String retriever) {
      return new Options(decoder, retriever, null, null, Duration.ofMinutes(1));
    }
  }

  /**
   * Connects when a method first needs a service.
   *
   * @throws SSLException the certificates cannot be used
   */
  public Memory3Client(Options options) throws SSLException {
    timeout = options.timeout();
    Channel toRetriever = connect(options.retriever(), options);
    decoder = DecoderServiceGrpc.newBlockingStub(connect(options.decoder(), options));
    retriever = RetrieverServiceGrpc.newBlockingStub(toRetriever);
    retrieverStreams = RetrieverServiceGrpc.newStub(toRetriever);
  }

  /** Makes a bank, or leaves the one of that name as it is. */
  public Bank createBank(String bank) {
    var request =
        CreateBankRequest.newBuilder()
            .setBank(Bank.newBuilder().setName(bankName(bank)))
            .setAllowExisting(true)
            .build();
    return typed(() -> timed(retriever).createBank(request).getBank());
  }

  /**
   * Cuts texts into references and keeps them; what is returned has been written durably. A document
   * that cannot be kept is an error of its own in its result.
   */
  public List<AddDocumentResult> addDocuments(String bank, List<Document> documents) {
    var results = new ArrayList<AddDocumentResult>();
    var ended = new CompletableFuture<Void>();
    var requests =
        timed(retrieverStreams)
            .addDocuments(
                new StreamObserver<AddDocumentsResponse>() {
                  @Override
                  public void onNext(AddDocumentsResponse response) {
                    results.addAll(response.getResultsList());
                  }

                  @Override
                  public void onError(Throwable error) {
                    ended.completeExceptionally(error);
                  }

                  @Override
                  public void onCompleted() {
                    ended.complete(null);
                  }
                });
    requests.onNext(
        AddDocumentsRequest.newBuilder().setBank(bankName(bank)).addAllDocuments(documents).build());
    requests.onCompleted();
    try {
      ended.join();
    } catch (CompletionException error) {
      if (error.getCause() instanceof StatusRuntimeException status) {
        throw new Memory3Exception(status);
      }
      throw error;
    }
    return results;
  }

  /** Finds the {@code k} references that are nearest to a text, best first. */
  public List<SearchHit> search(String bank, String text, int k) {
    var request =
        SearchRequest.newBuilder()
            .setBank(bankName(bank))
            .addQueries(Query.newBuilder().setText(text))
            .setK(k)
            .build();
    return typed(() -> timed(retriever).search(request).getResults(0).getHitsList());
  }

  /** Begins an answer; close it to stop the work early. */
  public Answer generate(GenerateRequest request) {
    return new Answer(request);
  }

  /** An answer on its way: events to be read once, in a try block that ends the call. */
  public final class Answer implements Iterable<GenerateResponse>, AutoCloseable {
    private final Context.CancellableContext context = Context.current().withCancellation();
    private final Iterator<GenerateResponse> events;

    private Answer(GenerateRequest request) {
      Context before = context.attach();
      try {
        events = timed(decoder).generate(request);
      } finally {
        context.detach(before);
      }
    }

    @Override
    public Iterator<GenerateResponse> iterator() {
      return new Iterator<>() {
        @Override
        public boolean hasNext() {
          return typed(events::hasNext);
        }

        @Override
        public GenerateResponse next() {
          return typed(events::next);
        }
      };
    }

    /** Stops the work, on the server too; reading on fails with CANCELLED. */
    public void cancel() {
      context.cancel(null);
    }

    @Override
    public void close() {
      cancel();
    }
  }

  @Override
  public void close() {
    channels.forEach(ManagedChannel::shutdownNow);
  }

  /** The resource name of a bank: {@code docs} becomes {@code banks/docs}. */
  public static String bankName(String bank) {
    return bank.startsWith("banks/") ? bank : "banks/" + bank;
  }

  private Channel connect(String target, Options options) throws SSLException {
    var builder =
        NettyChannelBuilder.forTarget(target)
            .defaultServiceConfig(SERVICE_CONFIG)
            .enableRetry()
            .keepAliveTime(KEEPALIVE_SECONDS, TimeUnit.SECONDS)
            .maxInboundMessageSize(MAX_MESSAGE_BYTES);
    if (options.rootCertificates() == null) {
      builder.usePlaintext();
    } else {
      builder.sslContext(
          GrpcSslContexts.forClient().trustManager(options.rootCertificates()).build());
    }
    ManagedChannel channel = builder.build();
    channels.add(channel);
    return options.token() == null
        ? channel
        : ClientInterceptors.intercept(
            channel,
            new io.grpc.ClientInterceptor() {
              @Override
              public <Q, A> io.grpc.ClientCall<Q, A> interceptCall(
                  io.grpc.MethodDescriptor<Q, A> method, CallOptions call, Channel next) {
                return next.newCall(method, call.withCallCredentials(new Bearer(options.token())));
              }
            });
  }

  private <S extends io.grpc.stub.AbstractStub<S>> S timed(S stub) {
    return stub.withWaitForReady().withDeadlineAfter(timeout.toMillis(), TimeUnit.MILLISECONDS);
  }

  private static Map<String, String> retried(String method) {
    return Map.of("service", "memory3.v1.RetrieverService", "method", method);
  }

  private static <T> T typed(Supplier<T> call) {
    try {
      return call.get();
    } catch (StatusRuntimeException error) {
      throw new Memory3Exception(error);
    }
  }

  /** Sends a token with every call. */
  private static final class Bearer extends CallCredentials {
    private static final Metadata.Key<String> AUTHORIZATION =
        Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

    private final String token;

    Bearer(String token) {
      this.token = token;
    }

    @Override
    public void applyRequestMetadata(RequestInfo info, Executor executor, MetadataApplier applier) {
      if (info.getSecurityLevel() == io.grpc.SecurityLevel.NONE) {
        applier.fail(Status.UNAUTHENTICATED.withDescription("a token is sent over TLS alone"));
        return;
      }
      Metadata headers = new Metadata();
      headers.put(AUTHORIZATION, "Bearer " + token);
      applier.apply(headers);
    }

    @Override
    public void thisUsesUnstableApi() {}
  }
}
