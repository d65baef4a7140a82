import { assertEquals } from "@std/assert";
import { type LayerEntry, packLayer, writeLayout } from "./oci_layout.ts";
import { runOk } from "./process.ts";

const ENTRIES: LayerEntry[] = [
  { path: "bin", mode: 0o755, type: "directory" },
  { path: "/bin/tool", mode: 0o4755, type: "file", content: "tool\n" },
  { path: "bin/hard", type: "link", target: "bin/tool" },
  { path: "bin/soft", type: "symlink", target: "tool" },
];

async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await work(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("packLayer() keeps modes and links, and gives the same bytes each time", async () => {
  const layer = await packLayer(ENTRIES);
  assertEquals(await packLayer(ENTRIES), layer);
  const list = await runOk(["tar", "--list", "--verbose", "--numeric-owner", "--utc"], {
    stdin: layer,
  });
  const lines = list.trim().split("\n").map((line) => line.replaceAll(/\s+/g, " "));
  assertEquals(lines, [
    "drwxr-xr-x 0/0 0 1970-01-01 00:00 bin",
    "-rwsr-xr-x 0/0 5 1970-01-01 00:00 bin/tool",
    "hrwxrwxrwx 0/0 0 1970-01-01 00:00 bin/hard link to bin/tool",
    "lrwxrwxrwx 0/0 0 1970-01-01 00:00 bin/soft -> tool",
  ]);
});

Deno.test("writeLayout() writes each shared layer once, and every blob under its own digest", async () => {
  await inFolder(async (folder) => {
    const base = await packLayer(ENTRIES);
    const more = await packLayer([{ path: "more", mode: 0o644, type: "file", content: "more" }]);
    await writeLayout(folder, [
      { name: "a:1", layers: [base], config: { Cmd: ["tool"] } },
      { name: "b:2", layers: [base, more], config: { User: "7" } },
    ]);
    const blobs: string[] = [];
    for await (const { name } of Deno.readDir(`${folder}/blobs/sha256`)) blobs.push(name);
    assertEquals(blobs.length, 6, "two layers, two configurations, two manifests");
    const sums = await runOk([
      "sha256sum",
      ...blobs.map((name) => `${folder}/blobs/sha256/${name}`),
    ]);
    for (const line of sums.trim().split("\n")) {
      const [sum, path = ""] = line.split(/\s+/);
      assertEquals(path.endsWith(`/${sum}`), true, line);
    }
    const index = JSON.parse(await Deno.readTextFile(`${folder}/index.json`));
    const names = index.manifests.map((one: { annotations: Record<string, string> }) =>
      one.annotations["org.opencontainers.image.ref.name"]
    );
    assertEquals(names, ["a:1", "b:2"]);
  });
});
