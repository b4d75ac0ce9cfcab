package memory3.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.time.Duration;

/** What a service answers instead. Decide by code and reason, never by the message. */
public final class Memory3Exception extends RuntimeException {
  private static final long serialVersionUID = 1L;
  private static final String DOMAIN = "memory3";
  private static final Metadata.Key<byte[]> DETAILS =
      Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);

  private final Status.Code code;
  private String reason = "";
  private String field = "";
  private String remedy = "";
  private Duration retryAfter = Duration.ZERO;

  Memory3Exception(StatusRuntimeException cause) {
    super(cause.getStatus().getDescription(), cause);
    code = cause.getStatus().getCode();
    byte[] details = cause.getTrailers() == null ? null : cause.getTrailers().get(DETAILS);
    if (details == null) {
      return;
    }
    try {
      for (Any detail : com.google.rpc.Status.parseFrom(details).getDetailsList()) {
        read(detail);
      }
    } catch (InvalidProtocolBufferException ignored) {
      // Details of a kind that nobody here knows: code and message still tell what happened.
    }
  }

  private void read(Any detail) throws InvalidProtocolBufferException {
    if (detail.is(RetryInfo.class)) {
      var delay = detail.unpack(RetryInfo.class).getRetryDelay();
      retryAfter = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
    } else if (detail.is(ErrorInfo.class)) {
      ErrorInfo info = detail.unpack(ErrorInfo.class);
      if (info.getDomain().equals(DOMAIN)) {
        reason = info.getReason();
        field = info.getMetadataOrDefault("field", "");
        remedy = info.getMetadataOrDefault("remedy", "");
      }
    }
  }

  /** The gRPC code. */
  public Status.Code code() {
    return code;
  }

  /**
   * One of the table in memory3/rpc/README.md, such as CHECKPOINT_MISMATCH; empty if the error did
   * not come from a service of memory3.
   */
  public String reason() {
    return reason;
  }

  /** The field of the request that is at fault; empty if not known. */
  public String field() {
    return field;
  }

  /** What to do; empty if not known. */
  public String remedy() {
    return remedy;
  }

  /** When to try again; zero if the service does not say. */
  public Duration retryAfter() {
    return retryAfter;
  }
}
