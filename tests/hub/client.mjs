// Uses the stand-in Hub through @huggingface/hub: node client.mjs ENDPOINT MODEL FILE CACHE
// Prints the files' names, the SHA-256 of FILE, and the snapshot that it downloads into CACHE.
import { createHash } from "node:crypto";
import { downloadFile, listFiles, scanCacheDir, snapshotDownload } from "@huggingface/hub";

const [hubUrl, name, path, cacheDir] = process.argv.slice(2);
const repo = { type: "model", name };
console.debug = () => {};
for await (const file of listFiles({ repo, hubUrl, recursive: true })) console.log("file", file.path);
const blob = await downloadFile({ repo, path, hubUrl });
console.log("sha256", createHash("sha256").update(Buffer.from(await blob.arrayBuffer())).digest("hex"));
console.log("snapshot", await snapshotDownload({ repo, hubUrl, cacheDir }));
const scan = await scanCacheDir(cacheDir);
console.log("scanned", scan.repos.map((r) => `${r.id.name} ${r.filesCount}`).join(), scan.warnings.length);
