// Uploads a file as an event, as JSON, describes or removes it, and waits for the result:
//   npm install; NATS_URL=... NATS_USER=... NATS_PASSWORD=... node upload.js FILE [ACTION]
// ACTION is upload, describe or remove.
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { connect, headers } from "@nats-io/transport-node";
import protobuf from "protobufjs";

const REPEAT_MS = 3_000;
const WAIT_MS = 600_000;
const PACKAGE = "aquifer.ingest.v1";
const tenant = process.env.AQUIFER_TENANT ?? "default";
const protos = process.env.AQUIFER_PROTOS ?? path.join(import.meta.dirname, "../../protos");
const [file, action = "upload"] = process.argv.slice(2);

// Results are protobuf; the events may be JSON.
const library = path.dirname(createRequire(import.meta.url).resolve("protobufjs/package.json"));
const root = new protobuf.Root();
root.resolvePath = (_, target) =>
  path.join(target.startsWith("google/protobuf/") ? library : protos, target);
await root.load("aquifer/ingest/v1/document_events.proto");

const connection = await connect({
  servers: process.env.NATS_URL,
  user: process.env.NATS_USER,
  pass: process.env.NATS_PASSWORD,
});
const eventId = randomUUID(); // the same id always means the same event
let accepted = false;
const result = new Promise((resolve) => {
  const results = ["DocumentIndexed", "DocumentUpdated", "DocumentDeleted", "DocumentFailed"];
  for (const name of ["DocumentAccepted", ...results]) {
    const type = root.lookupType(`${PACKAGE}.${name}`);
    connection.subscribe(`${PACKAGE}.${name}.${tenant}`, {
      callback: (_, message) => {
        const event = type.decode(message.data);
        if (event.uploadEventId !== eventId) return;
        if (name === "DocumentAccepted") accepted = true;
        else resolve({ name, event });
      },
    });
  }
});

async function makeEvent() {
  const fields = {
    tenant,
    document: `collections/examples/documents/${path.basename(file)}`,
    correlationId: "order-4711", // repeated in the results
  };
  if (action === "remove") return ["DocumentRemoved", fields];
  if (action === "describe") {
    // Replaces title and metadata as a whole.
    const described = { title: "A better title", metadata: { reviewed: true } };
    return ["DocumentDescribed", { ...fields, ...described }];
  }
  const content = (await readFile(file)).toString("base64"); // up to 256 KiB; larger: `reference`
  return ["DocumentUploaded", { ...fields, fileName: path.basename(file), content }];
}

const [kind, fields] = await makeEvent();
const body = JSON.stringify(fields);
const attributes = headers();
attributes.set("ce-specversion", "1.0");
attributes.set("ce-id", eventId);
attributes.set("ce-source", "/examples/node");
attributes.set("ce-type", `${PACKAGE}.${kind}`);
attributes.set("Content-Type", "application/json");

const publish = () => {
  if (!accepted) {
    connection.publish(`${PACKAGE}.${kind}.${tenant}`, body, { headers: attributes });
  }
};
publish();
const repeating = setInterval(publish, REPEAT_MS);
const waiting = setTimeout(() => {
  console.error("no result");
  process.exit(1);
}, WAIT_MS);
const { name, event } = await result;
clearInterval(repeating);
clearTimeout(waiting);
console.log(name, event.document);
await connection.drain();
process.exitCode = name === "DocumentFailed" ? 1 : 0;
