export { bankName, Memory3Client, type CallOptions, type Options } from "./client.js";
export { Memory3Error } from "./errors.js";
export type { AddDocumentResult__Output as AddDocumentResult } from "./generated/memory3/v1/AddDocumentResult.js";
export type { Document } from "./generated/memory3/v1/Document.js";
export type { GenerateRequest } from "./generated/memory3/v1/GenerateRequest.js";
export type { GenerateResponse__Output as GenerateResponse } from "./generated/memory3/v1/GenerateResponse.js";
export type { SearchHit__Output as SearchHit } from "./generated/memory3/v1/SearchHit.js";
