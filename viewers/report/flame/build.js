// Bundles d3-flame-graph with the parts of d3 that it needs into one classic script, with their
// licences in front. Usage: node build.js OUTPUT
import {build} from "esbuild";
import {readFileSync, readdirSync, writeFileSync} from "node:fs";

const entry = `
    import {select} from "d3-selection";
    import flamegraph from "d3-flame-graph";
    window.gilscopeFlame = {select, flamegraph};
`;
const result = await build({
    stdin: {contents: entry, resolveDir: process.cwd()},
    bundle: true,
    minify: true,
    format: "iife",
    target: "es2020",
    charset: "ascii",
    loader: {".css": "empty"}, // the report has its own
    legalComments: "none", // the whole texts stand in front
    metafile: true,
    write: false,
});
const packages = new Set(Object.keys(result.metafile.inputs)
    .map((path) => /^node_modules\/([^/]+)\//.exec(path)?.[1]).filter(Boolean));
const texts = new Map(); // text: the packages that stand under it
for (const name of [...packages].sort()) {
    const {version, license} = JSON.parse(readFileSync(`node_modules/${name}/package.json`));
    const file = readdirSync(`node_modules/${name}`).find((file) => /^licen[cs]e/i.test(file));
    const text = readFileSync(`node_modules/${name}/${file}`, "utf8").trim();
    if (text.includes("*/")) throw new Error(`${name}: its licence would end the comment`);
    texts.set(text, [...(texts.get(text) ?? []), `${name} ${version} (${license})`]);
}
const notices = [...texts].map(([text, names]) => `${names.join(", ")}\n\n${text}\n`);
const source = `/*!\nMade by \`make flame\` from npm packages.\n\n${notices.join("\n----\n\n")}*/\n`;
writeFileSync(process.argv[2], source + result.outputFiles[0].text);
