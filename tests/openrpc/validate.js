// Says whether the document on standard input is one of OpenRPC, by its own validator.
const {
  dereferenceDocument,
  validateOpenRPCDocument,
} = require("@open-rpc/schema-utils-js");

const main = async () => {
  const document = JSON.parse(require("fs").readFileSync(0, "utf-8"));
  const found = validateOpenRPCDocument(document);
  if (found !== true) throw found;
  await dereferenceDocument(document);
};

main().then(
  () => console.log("valid"),
  (error) => {
    console.log(error.message);
    process.exitCode = 1;
  },
);
