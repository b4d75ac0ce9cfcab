// What a service answers instead, as one class. Decide by code and reason, never by the message.
import { Metadata, status, type ServiceError } from "@grpc/grpc-js";
import protobuf from "protobufjs";

const DOMAIN = "memory3";
const DETAILS = "grpc-status-details-bin";

/** A call that failed. */
export class Memory3Error extends Error {
  override readonly name = "Memory3Error";

  constructor(
    message: string,
    /** The gRPC status, such as `status.NOT_FOUND`. */
    readonly code: status,
    /** One of the table in memory3/rpc/README.md, such as `CHECKPOINT_MISMATCH`; else empty. */
    readonly reason: string = "",
    /** The field of the request that is at fault; empty if not known. */
    readonly field: string = "",
    /** What to do; empty if not known. */
    readonly remedy: string = "",
    /** Seconds after which to try again; 0 if the service does not say. */
    readonly retryAfter: number = 0,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  /** The name of the code, such as `NOT_FOUND`. */
  get codeName(): string {
    return status[this.code];
  }
}

/** Makes a Memory3Error of what a call was answered with. */
export function typed(error: unknown): unknown {
  if (!isServiceError(error)) return error;
  let reason = "", field = "", remedy = "", retryAfter = 0;
  for (const detail of details(error.metadata)) {
    if (detail.type === "google.rpc.ErrorInfo") {
      const info = decode(ErrorInfo, detail.value);
      if (info["domain"] !== DOMAIN) continue;
      const metadata = info["metadata"] as Record<string, string>;
      reason = info["reason"] as string;
      field = metadata["field"] ?? "";
      remedy = metadata["remedy"] ?? "";
    } else if (detail.type === "google.rpc.RetryInfo") {
      const { retryDelay } = decode(RetryInfo, detail.value) as { retryDelay?: Delay };
      retryAfter = Number(retryDelay?.seconds ?? 0) + (retryDelay?.nanos ?? 0) / 1e9;
    }
  }
  return new Memory3Error(error.details, error.code, reason, field, remedy, retryAfter, {
    cause: error,
  });
}

type Delay = { seconds: number | string; nanos: number };

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "details" in error && "metadata" in error;
}

// The messages of google.rpc that matter here; grpc-js hands them on as bytes.
const { Field, MapField, Root, Type } = protobuf;
const AnyValue = new Type("Any").add(new Field("typeUrl", 1, "string")).add(new Field("value", 2, "bytes"));
const Status = new Type("Status").add(new Field("details", 3, "Any", "repeated"));
const ErrorInfo = new Type("ErrorInfo")
  .add(new Field("reason", 1, "string"))
  .add(new Field("domain", 2, "string"))
  .add(new MapField("metadata", 3, "string", "string"));
const Duration = new Type("Duration").add(new Field("seconds", 1, "int64")).add(new Field("nanos", 2, "int32"));
const RetryInfo = new Type("RetryInfo").add(new Field("retryDelay", 1, "Duration"));
const root = new Root();
for (const type of [AnyValue, Status, ErrorInfo, Duration, RetryInfo]) root.add(type);

function details(metadata: Metadata): { type: string; value: Uint8Array }[] {
  const [bytes] = metadata.get(DETAILS);
  if (!Buffer.isBuffer(bytes)) return [];
  const packed = decode(Status, bytes)["details"] as { typeUrl: string; value: Uint8Array }[];
  return packed.map(({ typeUrl, value }) => ({ type: typeUrl.slice(typeUrl.lastIndexOf("/") + 1), value }));
}

function decode(type: protobuf.Type, bytes: Uint8Array): Record<string, unknown> {
  return type.toObject(type.decode(bytes), { defaults: true, longs: Number });
}
