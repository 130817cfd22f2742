// Asks questions in a conversation, cancels an answer, and pages through the conversations:
//   npm install; AQUIFER_AUTH=host:port AQUIFER_QUERY=host:port AQUIFER_API_KEY=... node chat.js QUESTION...
// It knows nothing of Aquifer but the folder `protos`.
import path from "node:path";
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const CALL_MS = 60_000;
const PAGE_SIZE = 2;
const protos = process.env.AQUIFER_PROTOS ?? path.join(import.meta.dirname, "../../protos");
const questions = process.argv.slice(2);

const { auth, query } = grpc.loadPackageDefinition(
  loadSync(["aquifer/auth/v1/auth_service.proto", "aquifer/query/v1/conversation_service.proto"], {
    includeDirs: [protos],
    keepCase: true, // names as in the protos: api_key, not apiKey
    longs: Number,
    enums: String,
    defaults: true,
    oneofs: true, // tells which step of an answer has come
  }),
).aquifer;

function open(Service, address) {
  const client = new Service(address, grpc.credentials.createInsecure());
  return { client, close: () => client.close() };
}

function call(client, method, request, metadata = new grpc.Metadata()) {
  return promisify(client[method].bind(client))(request, metadata, { deadline: Date.now() + CALL_MS });
}

async function signIn() {
  const { client, close } = open(auth.v1.AuthService, process.env.AQUIFER_AUTH);
  const token = await call(client, "ExchangeToken", { api_key: process.env.AQUIFER_API_KEY });
  close();
  const metadata = new grpc.Metadata();
  metadata.set("authorization", `Bearer ${token.access_token}`); // valid for ten minutes
  return metadata;
}

/** Streams an answer; with `cancel` it is cancelled after its first step. */
async function ask(client, metadata, conversation, question, { cancel = false } = {}) {
  const stream = client.SendMessage({ parent: conversation, question }, metadata, {
    deadline: Date.now() + CALL_MS,
  });
  const answer = { text: "", citations: [], reason: "" };
  try {
    for await (const step of stream) {
      if (cancel) stream.cancel();
      if (step.step === "delta") answer.text += step.delta.text;
      if (step.step === "citation") answer.citations.push(step.citation);
      if (step.step === "finished") answer.reason = step.finished.reason;
    }
  } catch (error) {
    if (!cancel || error.code !== grpc.status.CANCELLED) throw error;
    answer.reason = "CANCELLED";
  }
  return answer;
}

const metadata = await signIn();
const { client, close } = open(query.v1.ConversationService, process.env.AQUIFER_QUERY);

for (const question of questions) {
  const { name } = await call(
    client,
    "CreateConversation",
    { conversation: { title: question } },
    metadata,
  );
  const answer = await ask(client, metadata, name, question);
  const cancelled = await ask(client, metadata, name, question, { cancel: true });
  const { messages } = await call(client, "ListMessages", { parent: name }, metadata);
  const cited = answer.citations.map((citation) => citation.passage.document);
  console.log(
    JSON.stringify({ name, ...answer, citations: cited, cancelled: cancelled.reason, messages: messages.length }),
  );
}

const titles = [];
let pages = 0;
for (let token = ""; pages === 0 || token; pages += 1) {
  const request = { page_size: PAGE_SIZE, page_token: token };
  const page = await call(client, "ListConversations", request, metadata);
  titles.push(...page.conversations.map((conversation) => conversation.title));
  token = page.next_page_token;
}
console.log(JSON.stringify({ pages, titles }));
close();
