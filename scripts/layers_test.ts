import { assertEquals } from "@std/assert";
import { importsOf, layerOf, offences } from "./layers.ts";

const IMPORTS: readonly [source: string, imports: string[]][] = [
  [`import { a } from "./a.ts";`, ["lib/store/a.ts"]],
  [`import type { a } from "../base/a.ts";`, ["lib/base/a.ts"]],
  [`import {\n  a,\n  b,\n} from "../base/a.ts";`, ["lib/base/a.ts"]],
  [`import "./effect.ts";`, ["lib/store/effect.ts"]],
  [`export { a } from './a.ts';`, ["lib/store/a.ts"]],
  [`export * from "./a.ts";\nimport * as b from "./b.ts";`, ["lib/store/a.ts", "lib/store/b.ts"]],
  [`const a = await import("../../main.ts");`, ["main.ts"]],
  [`import { a } from "@std/path";\nimport { b } from "./b.ts";`, ["lib/store/b.ts"]],
  [`import { a } from "node:os";`, []],
  [`export const PATH = "../router/table.ts";`, []],
  [`export function f() {\n  return "./x";\n}`, []],
  [` * import { a } from "./a.ts";`, []],
];

for (const [source, imports] of IMPORTS) {
  Deno.test(`importsOf() finds ${JSON.stringify(imports)} in ${JSON.stringify(source)}`, () => {
    assertEquals(importsOf("lib/store/x.ts", source), imports);
  });
}

const LAYERS: readonly [path: string, folder: string | undefined][] = [
  ["lib/base/error.ts", "lib/base"],
  ["lib/adapters/slurm/job.ts", "lib/adapters"],
  ["main.ts", "main.ts"],
  ["lib/basement/x.ts", undefined],
  ["scripts/x.ts", undefined],
];

for (const [path, folder] of LAYERS) {
  Deno.test(`layerOf() says ${folder} of ${path}`, () => {
    assertEquals(layerOf(path)?.folder, folder);
  });
}

const on = (...targets: string[]) => targets.map((target) => `import "${target}";\n`).join("");

const MODULES: readonly [modules: Record<string, string>, offences: string[]][] = [
  [{ "main.ts": on("./lib/server/s.ts"), "lib/server/s.ts": on("../base/b.ts") }, []],
  [{ "lib/store/a.ts": on("./b.ts"), "lib/store/b.ts": "" }, []],
  [
    { "lib/base/b.ts": on("../store/s.ts") },
    ["lib/base/b.ts: must not import lib/store/s.ts: lib/base lies below lib/store."],
  ],
  [
    { "lib/store/s.ts": on("../executors/e.ts") },
    ["lib/store/s.ts: must not import lib/executors/e.ts: lib/store lies below lib/executors."],
  ],
  [
    { "lib/store/s.ts": on("../../scripts/x.ts") },
    ["lib/store/s.ts: must not import scripts/x.ts, which lies in no layer."],
  ],
  [
    { "lib/utils/u.ts": "" },
    ["lib/utils/u.ts: lies in no layer; put it into a folder that scripts/layers.ts lists."],
  ],
  [
    {
      "lib/store/a.ts": on("./b.ts"),
      "lib/store/b.ts": on("./c.ts"),
      "lib/store/c.ts": on("./b.ts"),
    },
    ["Files import each other: lib/store/b.ts → lib/store/c.ts → lib/store/b.ts."],
  ],
  [
    { "lib/store/a.ts": on("./a.ts") },
    ["Files import each other: lib/store/a.ts → lib/store/a.ts."],
  ],
];

for (const [modules, found] of MODULES) {
  Deno.test(`offences() finds ${found.length} in ${JSON.stringify(modules)}`, () => {
    assertEquals(offences(new Map(Object.entries(modules))), found);
  });
}
