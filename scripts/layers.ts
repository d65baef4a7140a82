/**
 * Checks that imports point downwards only (ARCHITECTURE.md) and that no files import each other in a
 * circle. `deno task layers`; ends with 1 and a line for each offence.
 */
import { dirname, fromFileUrl, join, relative } from "@std/path";
import { writeStderrLine, writeStdoutLine } from "../lib/base/log.ts";

/** From the bottom up. A folder may import itself and whatever stands below it. */
const LAYERS: readonly (readonly string[])[] = [
  ["lib/base"],
  ["wasm", "lib/cri"],
  ["lib/executors", "lib/store"],
  ["lib/config", "lib/logs", "lib/streaming"],
  ["lib/images", "lib/network"],
  ["lib/adapters"],
  ["lib/runtime", "lib/remote"],
  ["lib/router", "lib/admin"],
  ["lib/server"],
  ["main.ts"],
];

const ROOT = fromFileUrl(new URL("..", import.meta.url));

/** `import … from "./x"`, `export … from "./x"`, `import "./x"`, `import("./x")`; no other string. */
const IMPORT =
  /^\s*(?:import|export)\b(?:[^;"'=]*?\bfrom)?\s*["'](\.{1,2}\/[^"']+)["']|\bimport\(\s*["'](\.{1,2}\/[^"']+)["']/gms;

/** Relative imports of a module, resolved to paths from the root of the checkout. */
export function importsOf(path: string, source: string): string[] {
  return [...source.matchAll(IMPORT)].map(([, fixed, dynamic]) =>
    join(dirname(path), fixed ?? dynamic ?? "")
  );
}

/** The height of the layer a file lies in, and its folder; undefined for a file of no layer. */
export function layerOf(path: string): { height: number; folder: string } | undefined {
  for (const [height, folders] of LAYERS.entries()) {
    const folder = folders.find((folder) => path === folder || path.startsWith(`${folder}/`));
    if (folder !== undefined) return { height, folder };
  }
  return undefined;
}

/** Sentences about every import that does not point downwards, given all modules by path. */
export function offences(modules: ReadonlyMap<string, string>): string[] {
  const found: string[] = [];
  const graph = new Map<string, string[]>();
  for (const [path, source] of modules) {
    const from = layerOf(path);
    if (from === undefined) {
      found.push(`${path}: lies in no layer; put it into a folder that scripts/layers.ts lists.`);
      continue;
    }
    const targets = importsOf(path, source);
    graph.set(path, targets);
    for (const target of targets) {
      const to = layerOf(target);
      if (to === undefined) {
        found.push(`${path}: must not import ${target}, which lies in no layer.`);
      } else if (to.folder !== from.folder && to.height >= from.height) {
        found.push(`${path}: must not import ${target}: ${from.folder} lies below ${to.folder}.`);
      }
    }
  }
  return [...found, ...circles(graph)];
}

/** Depth-first search; each circle is named once, by the import that closes it. */
function circles(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const found: string[] = [];
  const finished = new Set<string>();
  const visit = (path: string, trail: readonly string[]) => {
    if (trail.includes(path)) {
      found.push(
        `Files import each other: ${[...trail.slice(trail.indexOf(path)), path].join(" → ")}.`,
      );
      return;
    }
    if (finished.has(path)) return;
    for (const target of graph.get(path) ?? []) visit(target, [...trail, path]);
    finished.add(path);
  };
  for (const path of graph.keys()) visit(path, []);
  return found;
}

async function modulesBelow(folder: string): Promise<Map<string, string>> {
  const modules = new Map<string, string>();
  for await (const entry of Deno.readDir(join(ROOT, folder))) {
    const path = join(folder, entry.name);
    if (entry.isDirectory) {
      for (const [child, source] of await modulesBelow(path)) modules.set(child, source);
    } else if (/\.ts$/.test(path) && !/_test\.ts$|\/test_\w+\.ts$/.test(path)) {
      // Tests and their helpers may look at what stands above.
      modules.set(path, await Deno.readTextFile(join(ROOT, path)));
    }
  }
  return modules;
}

if (import.meta.main) {
  const modules = await modulesBelow("lib");
  for (const file of ["main.ts", "wasm/core.ts"]) {
    modules.set(relative(ROOT, join(ROOT, file)), await Deno.readTextFile(join(ROOT, file)));
  }
  const found = offences(modules);
  for (const line of found) writeStderrLine(line);
  if (found.length > 0) Deno.exit(1);
  writeStdoutLine(`Layers: ${modules.size} modules in order`);
}
