import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { registryCertificates } from "./registry_certificates.ts";

const CASES: readonly [what: string, files: Record<string, string>, wanted: readonly string[]][] = [
  ["there is none", {}, []],
  ["another registry has one", { "a/other.example/ca.crt": "x" }, []],
  [
    "there are several, and a client's",
    {
      "a/r.example:5000/2.crt": "two",
      "a/r.example:5000/1.crt": "one",
      "a/r.example:5000/c.key": "",
    },
    ["one", "two"],
  ],
  ["only the second place has one", { "b/r.example:5000/ca.crt": "x" }, ["x"]],
  [
    "both places have one",
    { "a/r.example:5000/ca.crt": "first", "b/r.example:5000/ca.crt": "second" },
    ["first"],
  ],
];

for (const [what, files, wanted] of CASES) {
  Deno.test(`registryCertificates() gives ${wanted.length} when ${what}`, async () => {
    const root = await Deno.makeTempDir({ prefix: "certificates-" });
    try {
      for (const [path, text] of Object.entries(files)) {
        await Deno.mkdir(join(root, path, ".."), { recursive: true });
        await Deno.writeTextFile(join(root, path), text);
      }
      const places = [join(root, "a"), join(root, "b")];
      assertEquals(await registryCertificates("r.example:5000", places), wanted);
    } finally {
      await Deno.remove(root, { recursive: true });
    }
  });
}
