// A connected client: add documents, search, generate. What has no method here is on the stubs.
import { fileURLToPath } from "node:url";
import {
  type ChannelCredentials,
  type ClientOptions,
  type ClientReadableStream,
  credentials,
  loadPackageDefinition,
  Metadata,
  type ServiceError,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

import { typed } from "./errors.js";
import type { ProtoGrpcType as DecoderTypes } from "./generated/decoder.js";
import type { AddDocumentResult__Output } from "./generated/memory3/v1/AddDocumentResult.js";
import type { Bank__Output } from "./generated/memory3/v1/Bank.js";
import type { DecoderServiceClient } from "./generated/memory3/v1/DecoderService.js";
import type { Document } from "./generated/memory3/v1/Document.js";
import type { GenerateRequest } from "./generated/memory3/v1/GenerateRequest.js";
import type { GenerateResponse__Output } from "./generated/memory3/v1/GenerateResponse.js";
import type { RetrieverServiceClient } from "./generated/memory3/v1/RetrieverService.js";
import type { SearchHit__Output } from "./generated/memory3/v1/SearchHit.js";
import type { ProtoGrpcType as RetrieverTypes } from "./generated/retriever.js";

const PROTOS = fileURLToPath(new URL("../proto", import.meta.url));
const RETRIED = { service: "memory3.v1.RetrieverService" };

// Calls with one answer are tried again while nothing answers; streams are the caller's to begin
// again. Servers take pings half as far apart for a flood.
const CHANNEL: ClientOptions = {
  "grpc.keepalive_time_ms": 60_000,
  "grpc.max_receive_message_length": 64 * 1024 * 1024,
  "grpc.service_config": JSON.stringify({
    loadBalancingConfig: [{ round_robin: {} }],
    methodConfig: [
      {
        name: [{ ...RETRIED, method: "CreateBank" }, { ...RETRIED, method: "Search" }],
        retryPolicy: {
          maxAttempts: 5,
          initialBackoff: "0.05s",
          maxBackoff: "1s",
          backoffMultiplier: 2,
          retryableStatusCodes: ["UNAVAILABLE"],
        },
      },
    ],
  }),
};

/** Where the services are; without anything a stack on this machine, without TLS. */
export interface Options {
  /** gRPC target of the decoder, such as `dns:///decoder:7300`. */
  decoder?: string;
  /** gRPC target of the retriever. */
  retriever?: string;
  /** Sent as a bearer token with every call; needs `rootCertificates`. */
  token?: string;
  /** Certificates in PEM; switches TLS on. */
  rootCertificates?: Buffer;
}

/** What every call may be given. */
export interface CallOptions {
  /** Milliseconds that the caller waits; one minute unless said otherwise. */
  timeoutMs?: number;
  /** Stops the work, on the server too. */
  signal?: AbortSignal;
}

/** Connected to a decoder and a retriever. */
export class Memory3Client {
  readonly decoder: DecoderServiceClient;
  readonly retriever: RetrieverServiceClient;

  constructor(options: Options = {}) {
    const types = loadPackageDefinition(
      loadSync(["memory3/v1/decoder.proto", "memory3/v1/retriever.proto"], {
        includeDirs: [PROTOS],
        longs: Number,
        enums: String,
        defaults: true,
        oneofs: true,
      }),
    ) as unknown as DecoderTypes & RetrieverTypes;
    const channel = channelCredentials(options);
    const { DecoderService, RetrieverService } = types.memory3.v1;
    this.decoder = new DecoderService(options.decoder ?? "127.0.0.1:7300", channel, CHANNEL);
    this.retriever = new RetrieverService(options.retriever ?? "127.0.0.1:7301", channel, CHANNEL);
  }

  /** Ends the connections. */
  close(): void {
    this.decoder.close();
    this.retriever.close();
  }

  /** Makes a bank, or leaves the one of that name as it is. */
  async createBank(bank: string, options: CallOptions = {}): Promise<Bank__Output> {
    const request = { bank: { name: bankName(bank) }, allowExisting: true };
    const response = await unary<{ bank: Bank__Output | null }>(options, (deadline, done) =>
      this.retriever.createBank(request, new Metadata(), deadline, done),
    );
    return response.bank!;
  }

  /**
   * Cuts texts into references and keeps them; what is returned has been written durably. A
   * document that cannot be kept is an error of its own in its result.
   */
  async addDocuments(
    bank: string,
    documents: Document[],
    options: CallOptions = {},
  ): Promise<AddDocumentResult__Output[]> {
    const stream = this.retriever.addDocuments(new Metadata(), deadline(options));
    stream.write({ bank: bankName(bank), documents });
    stream.end();
    const results: AddDocumentResult__Output[] = [];
    for await (const response of reading(stream, options)) results.push(...response.results);
    return results;
  }

  /** Finds the `k` references that are nearest to a text, best first. */
  async search(
    bank: string,
    text: string,
    k = 5,
    options: CallOptions = {},
  ): Promise<SearchHit__Output[]> {
    const request = { bank: bankName(bank), queries: [{ text }], k };
    const response = await unary<{ results: { hits: SearchHit__Output[] }[] }>(
      options,
      (deadline, done) => this.retriever.search(request, new Metadata(), deadline, done),
    );
    return response.results[0]?.hits ?? [];
  }

  /** Generates: text, memories and the end as events. Leaving the loop stops the work. */
  generate(
    request: GenerateRequest,
    options: CallOptions = {},
  ): AsyncGenerator<GenerateResponse__Output> {
    return reading(this.decoder.generate(request, new Metadata(), deadline(options)), options);
  }
}

/** The resource name of a bank: `docs` becomes `banks/docs`. */
export function bankName(bank: string): string {
  return bank.startsWith("banks/") ? bank : `banks/${bank}`;
}

function channelCredentials({ token, rootCertificates }: Options): ChannelCredentials {
  if (rootCertificates === undefined) {
    if (token !== undefined) {
      throw new TypeError("a token would travel in the open: give rootCertificates too");
    }
    return credentials.createInsecure();
  }
  const transport = credentials.createSsl(rootCertificates);
  if (token === undefined) return transport;
  const metadata = new Metadata();
  metadata.set("authorization", `Bearer ${token}`);
  return credentials.combineChannelCredentials(
    transport,
    credentials.createFromMetadataGenerator((_, done) => done(null, metadata)),
  );
}

function deadline({ timeoutMs = 60_000 }: CallOptions): { deadline: number } {
  return { deadline: Date.now() + timeoutMs };
}

async function unary<T>(
  options: CallOptions,
  begin: (
    deadline: { deadline: number },
    done: (error: ServiceError | null, response?: T) => void,
  ) => { cancel(): void },
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const call = begin(deadline(options), (error, response) => {
      options.signal?.removeEventListener("abort", stop);
      if (error) reject(typed(error));
      else resolve(response!);
    });
    const stop = (): void => call.cancel();
    if (options.signal?.aborted) stop();
    options.signal?.addEventListener("abort", stop);
  });
}

async function* reading<T>(
  stream: { cancel(): void } & ClientReadableStream<T>,
  { signal }: CallOptions,
): AsyncGenerator<T> {
  const stop = (): void => stream.cancel();
  if (signal?.aborted) stop();
  signal?.addEventListener("abort", stop);
  try {
    for await (const message of stream) yield message as T;
  } catch (error) {
    throw typed(error);
  } finally {
    signal?.removeEventListener("abort", stop);
    // Nothing to a stream that has ended; one that its reader has left is no longer wanted.
    stream.on("error", () => undefined);
    stream.cancel();
  }
}
