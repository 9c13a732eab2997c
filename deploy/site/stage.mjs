// Prepares a copy of the documentation for mdBook: `node stage.mjs FOLDER EVENTS MERMAID`.
//
// The copy has a last line with version, date and commit on each page. Links that leave docs/ lead
// to copies of their targets. EVENTS is the page of events, which `roomcast catalog` prints: links
// to the section about that command lead to it. Pages that are documentation of the library for
// rustdoc lose what only rustdoc understands.
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, posix, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const [, , folder, events, mermaid] = process.argv;
const read = (path) => readFileSync(path === EVENTS ? events : join(root, path), "utf8");

/** The page of events, which is in no folder of the project, and the section that stands for it there. */
const EVENTS = "docs/events.md";
const CATALOGUE = "docs/command-line.md#the-catalogue-of-events";

/** Pages outside docs/ that belong to the site, by their path in it. */
const added = {
  "README.md": "docs/project/repository.md",
  "CHANGELOG.md": "docs/project/changelog.md",
  "benches/README.md": "docs/project/benches.md",
};

/** Returns the output of git, or nothing in a folder without a repository. */
function git(...args) {
  try {
    return execFileSync("git", args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return "";
  }
}

/** Returns version, date and commit. `BUILD_COMMIT` is for a folder without a repository. */
function edition() {
  const [, version] = /^version = "(.+)"$/m.exec(read("server/Cargo.toml"));
  const commit = process.env.BUILD_COMMIT || git("rev-parse", "HEAD") || "unknown";
  const seconds = process.env.SOURCE_DATE_EPOCH || git("log", "-1", "--format=%ct") || Date.now() / 1000;
  const date = new Date(Number(seconds) * 1000).toISOString().slice(0, 10);
  const isChanged = git("status", "--porcelain", "--", "docs", "README.md", "CHANGELOG.md") ? ", with changes" : "";
  return `Roomcast ${version}, ${date}, commit ${commit.slice(0, 12)}${isChanged}`;
}

/** Calls `change` for the text outside of code blocks, line by line. */
function outsideCode(text, change) {
  let fence = "";
  const lines = text.split("\n").map((line) => {
    const [, mark] = /^\s*(```+|~~~+)/.exec(line) ?? [];
    if (mark && !fence) fence = mark;
    else if (mark && line.trim() === fence) fence = "";
    else if (!fence) return change(line);
    return line;
  });
  return lines.join("\n");
}

/** Returns the path of the copy of a file. mdBook would replace `.md` in its middle too. */
const copyOf = (file) => `files/${file.replace(/\.md$/, "")}.txt`;

const problems = [];
const copied = new Set();

/** Returns the link from a page of the site to a file or folder of the project. */
function link(page, staged, target) {
  if (/^([a-z]+:|#|$)/i.test(target)) return target;
  const [path, anchor] = target.split("#");
  const file = posix.normalize(posix.join(posix.dirname(page), path));
  if (`${file}#${anchor}` === CATALOGUE) return posix.relative(posix.dirname(staged), EVENTS);
  let to = added[file] ?? file;
  if (!existsSync(join(root, file))) {
    problems.push(`${page}: ${target} does not exist`);
    return target;
  }
  if (!to.startsWith("docs/")) {
    if (statSync(join(root, file)).isDirectory()) return undefined;
    to = `docs/${copyOf(file)}`;
    copied.add(file);
  }
  // mdBook names the page of a README index.html.
  to = to.replace(/\/README\.md$/, "/index.md");
  return posix.relative(posix.dirname(staged), to) + (anchor ? `#${anchor}` : "");
}

/** Removes links to items of the library, which only rustdoc resolves. */
function withoutItems(line) {
  if (/^\[`[^`]+`\]: \S+$/.test(line)) return "";
  return line
    .replace(/\[([^\]]+)\]\((?:[a-z_]+::)*[A-Za-z_]+(?:::[A-Za-z_]+)*(?:\(\))?\)/g, "$1")
    .replace(/\[(`[^`\]]+`)\](?![[(])/g, "$1")
    .replace(/\[(`[^`\]]+`)\]\[[^\]]*\]/g, "$1");
}

/** The titles of pages that rustdoc shows below the title of a module. */
const titles = { "docs/guide.md": "The library, by example" };
const isOfLibrary = (page) => ["docs/guide.md", "docs/migrating-from-node.md", "docs/rust-client.md"].includes(page);

function staged(page, to, footer) {
  let text = read(page);
  if (titles[page]) text = `# ${titles[page]}\n\n${outsideCode(text, (line) => line.replace(/^#+ /, "#$&"))}`;
  text = outsideCode(text, (line) => {
    const own = isOfLibrary(page) ? withoutItems(line) : line;
    return own
      .replace(/\]\(([^)\s]+)\)/g, (_, target) => {
        const linked = link(page, to, target);
        return linked === undefined ? "]" : `](${linked})`;
      })
      .replace(/(<img src=")([^"]+)/g, (_, start, target) => start + link(page, to, target));
  });
  return page.endsWith("SUMMARY.md") ? text : `${text.trimEnd()}\n\n<p class="version">${footer}</p>\n`;
}

function pages(path) {
  const entries = readdirSync(join(root, path), { withFileTypes: true });
  return entries.flatMap((entry) => {
    const inner = posix.join(path, entry.name);
    return entry.isDirectory() ? pages(inner) : [inner];
  });
}

const footer = edition();
const committed = pages("docs").filter((page) => page !== EVENTS);
const all = [...committed, EVENTS].map((page) => [page, page.replace(/\/README\.md$/, "/index.md")]);
for (const [page, to] of [...all, ...Object.entries(added)]) {
  mkdirSync(join(folder, posix.dirname(to)), { recursive: true });
  if (page.endsWith(".md")) writeFileSync(join(folder, to), staged(page, to, footer));
  else cpSync(join(root, page), join(folder, to));
}
const summary = join(folder, "docs/SUMMARY.md");
const project = Object.entries({ "The repository": "repository", Changelog: "changelog", Benches: "benches" });
const rows = project.map(([title, name]) => `- [${title}](project/${name}.md)`);
const listed = readFileSync(summary, "utf8").trimEnd();
const chat = "- [The chat's protocol](chat.md)\n";
if (!listed.includes(chat)) problems.push(`docs/SUMMARY.md: ${chat.trim()} is missing`);
const index = listed.replace(chat, `${chat}  - [Events](events.md)\n`);
writeFileSync(summary, `${index}\n\n# Project\n\n${rows.join("\n")}\n`);
for (const file of copied) {
  const to = join(folder, "docs", copyOf(file));
  mkdirSync(dirname(to), { recursive: true });
  cpSync(join(root, file), to);
}
cpSync(mermaid, join(folder, "mermaid.min.js"));
for (const file of ["site.css", "diagrams.js"]) cpSync(join(root, "deploy/site", file), join(folder, file));
// The changelog has the words of everything.
const isSearched = `\n[output.html.search.chapter]\n"project/changelog.md" = { enable = false }\n`;
const config = (read("book.toml") + isSearched)
  .replace('["deploy/site/site.css"]', '["site.css"]\nadditional-js = ["mermaid.min.js", "diagrams.js"]');
writeFileSync(join(folder, "book.toml"), config);
if (problems.length) {
  console.error(problems.join("\n"));
  process.exit(1);
}
