// Reads documents with the tools of others: node check.mjs KIND FILE, where KIND is `openrpc`,
// `openrpc-recursive` (which nobody can dereference), `openrpc-coverage` or `asyncapi`.
// Prints what is wrong, and ends with 1 then. Modules come from the folder NODE_MODULES_OF.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(`${process.env.NODE_MODULES_OF}/package.json`);
const [kind, file] = process.argv.slice(2);
const document = JSON.parse(readFileSync(file, "utf8"));
const wrong = [];

if (kind.startsWith("openrpc")) {
  const utils = require("@open-rpc/schema-utils-js");
  const valid = utils.validateOpenRPCDocument(structuredClone(document));
  if (valid !== true) wrong.push(valid.message);
  const dereference = kind !== "openrpc-recursive";
  const parsed = await utils.parseOpenRPCDocument(structuredClone(document), { dereference });
  if (parsed.methods.length !== document.methods.length) wrong.push("methods are missing");
  if (kind === "openrpc-coverage") {
    const cover = require("@open-rpc/test-coverage").default;
    // A notification has no result that could be looked at.
    const skip = parsed.methods.filter((method) => !method.result).map((method) => method.name);
    const calls = await cover({
      openrpcDocument: parsed, transport: "http", reporters: ["empty"], skip, only: [],
    });
    console.log(`${calls.length} calls`);
    for (const call of calls) if (!call.valid) wrong.push(JSON.stringify(call));
    if (calls.length === 0) wrong.push("no call was made");
  }
} else {
  const { Parser } = require("@asyncapi/parser");
  const { document: parsed, diagnostics } = await new Parser().parse(JSON.stringify(document));
  // Severity 0 is an error; warnings are advice on style.
  wrong.push(...diagnostics.filter((one) => one.severity === 0).map((one) => JSON.stringify(one)));
  if (parsed === undefined) wrong.push("not parsed");
  else console.log(`${parsed.operations().all().length} operations`);
}
for (const text of wrong) console.error(text);
process.exit(wrong.length ? 1 : 0);
