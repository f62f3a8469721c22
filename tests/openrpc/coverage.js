// Has @open-rpc/test-coverage call a live server, as the document on standard input
// says: with the examples of every method, then with parameters that its schemas allow
// and nobody would send. Prints every call that failed, and how many there were.
//
// HORUS_SECRETS: a JSON object with the secret of each scope, which a tag names.
const { parseOpenRPCDocument } = require("@open-rpc/schema-utils-js");
const coverage = require("@open-rpc/test-coverage").default;
const ExamplesRule =
  require("@open-rpc/test-coverage/build/rules/examples-rule").default;
const JsonSchemaFakerRule =
  require("@open-rpc/test-coverage/build/rules/json-schema-faker-rule").default;

const silent = { onBegin() {}, onTestBegin() {}, onTestEnd() {}, onEnd() {} };

// As the rule of the package, but that an error may answer: one that the method lists.
class JunkRule extends JsonSchemaFakerRule {
  getCalls(document, method) {
    const calls = super.getCalls(document, { ...method, examples: [] });
    const errors = method.errors.map((error) => error.code);
    return calls.map((call) => ({ ...call, errors }));
  }

  validateCall(call) {
    if (call.error === undefined) return super.validateCall(call);
    call.valid = call.errors.includes(call.error.code);
    call.reason = `the error ${call.error.code} is not among those of the method`;
    return call;
  }
}

const transportWith = (secretOf) => async (url, method, params) => {
  const response = await fetch(url, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      Authorization: `Bearer ${secretOf(method)}`,
    },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
  });
  if (response.status !== 200) throw new Error(`HTTP ${response.status}`);
  return response.json();
};

const main = async () => {
  const text = require("fs").readFileSync(0, "utf-8");
  const document = await parseOpenRPCDocument(JSON.parse(text));
  const secrets = JSON.parse(process.env.HORUS_SECRETS);
  const scopes = Object.fromEntries(
    document.methods.map(({ name, tags }) => [name, tags[0].name]),
  );
  const secretOf = (method) => secrets[scopes[method]] ?? secrets.user;
  const calls = await coverage({
    openrpcDocument: document,
    transport: transportWith(secretOf),
    reporters: [silent],
    rules: [new ExamplesRule(), new JunkRule({ numCalls: 20 })],
    skip: [],
    only: [],
  });
  const failures = calls
    .filter(({ valid }) => !valid)
    .map((call) => ({
      rule: call.title,
      method: call.methodName,
      params: call.params,
      error: call.error,
      reason: String(call.reason ?? call.requestError),
    }));
  const counts = {};
  for (const { rule } of calls) {
    const name = rule.constructor.name;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  console.log(JSON.stringify({ counts, failures }));
};

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
