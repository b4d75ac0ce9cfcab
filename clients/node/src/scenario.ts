// Does once what a client does: make a bank, add, search, generate, meet an error, cancel. Prints
// what came of it as one JSON object.
//
//   node dist/scenario.js --decoder 127.0.0.1:7300 --retriever 127.0.0.1:7301
import { parseArgs } from "node:util";

import { bankName, type GenerateRequest, Memory3Client, Memory3Error } from "./index.js";

const BANK = "clients-node";
const DOCUMENT = "The lighthouse of Vardø was built in 1896. Its keeper was called Marit.";
const QUESTION = "Who kept the lighthouse?";

const { values } = parseArgs({
  options: { decoder: { type: "string" }, retriever: { type: "string" } },
});
const client = new Memory3Client({
  ...(values.decoder !== undefined && { decoder: values.decoder }),
  ...(values.retriever !== undefined && { retriever: values.retriever }),
});

function request(bank: string, maxTokens: number): GenerateRequest {
  return {
    prompt: QUESTION,
    bank: bankName(bank),
    sampling: { maxTokens, ignoreEos: true },
    memory: { retrievalTimeout: { seconds: 10 } },
  };
}

async function failing(work: () => Promise<unknown>): Promise<Memory3Error> {
  try {
    await work();
  } catch (error) {
    if (error instanceof Memory3Error) return error;
    throw error;
  }
  throw new Error("what should have failed did not");
}

async function drain(events: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of events);
}

await client.createBank(BANK);
const added = await client.addDocuments(BANK, [{ text: DOCUMENT, source: "lighthouse.txt" }]);
const [hit] = await client.search(BANK, QUESTION, 1);

let text = "";
let finishReason: string | undefined;
let completionTokens: number | undefined;
const tokenIds: number[] = [];
const attached: string[] = [];
for await (const { delta, attached: chunk, finish } of client.generate(request(BANK, 24))) {
  text += delta?.text ?? "";
  tokenIds.push(...(delta?.tokenIds ?? []));
  attached.push(...(chunk?.references ?? []).map(({ id }) => id));
  finishReason ??= finish?.reason;
  completionTokens ??= finish?.usage?.completionTokens;
}

const absent = await failing(() => drain(client.generate(request("clients-node-absent", 8))));

const stopping = new AbortController();
const stopped = await failing(async () => {
  for await (const { delta } of client.generate(request(BANK, 400), { signal: stopping.signal })) {
    if (delta) stopping.abort();
  }
});
client.close();

const { code, reason, field, remedy } = absent;
console.log(
  JSON.stringify({
    num_references: added.flatMap(({ referenceIds }) => referenceIds).length,
    found: hit?.reference?.text,
    text,
    token_ids: tokenIds,
    attached,
    finish_reason: finishReason,
    completion_tokens: completionTokens,
    error: { code, reason, field, remedy },
    cancelled_with: stopped.codeName,
  }),
);
