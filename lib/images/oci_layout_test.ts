import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { CriError } from "../base/error.ts";
import { readLayoutImage } from "./oci_layout.ts";
import { sha256, writeLayout } from "./test_layout.ts";

async function withLayout(use: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "layout-" });
  try {
    await use(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

const EMPTY = {
  user: "",
  env: [],
  entrypoint: [],
  cmd: [],
  workingDir: "",
  labels: {},
  stopSignal: "",
};

Deno.test("readLayoutImage() reads all that decides how a container runs", () =>
  withLayout(async (directory) => {
    const layers = [new Uint8Array([1]), new Uint8Array([2])];
    const digest = await writeLayout(directory, {
      architecture: "amd64",
      config: {
        User: "1000:1000",
        Env: ["A=1"],
        Entrypoint: ["/e"],
        Cmd: ["c"],
        WorkingDir: "/w",
        Labels: { l: "1" },
        StopSignal: "SIGINT",
      },
    }, layers);
    assertEquals(await readLayoutImage(directory), {
      configDigest: digest,
      layerDigests: await Promise.all(layers.map(sha256)),
      config: {
        user: "1000:1000",
        env: ["A=1"],
        entrypoint: ["/e"],
        cmd: ["c"],
        workingDir: "/w",
        labels: { l: "1" },
        stopSignal: "SIGINT",
      },
    });
  }));

for (const config of [{}, { config: null }, { config: { Env: null, Cmd: null, Labels: null } }]) {
  Deno.test(`readLayoutImage() reads nothing when the configuration is ${JSON.stringify(config)}`, () =>
    withLayout(async (directory) => {
      await writeLayout(directory, config);
      assertEquals((await readLayoutImage(directory)).config, EMPTY);
    }));
}

const DAMAGES: Record<string, (directory: string) => Promise<void>> = {
  "index.json is no JSON": (d) => Deno.writeTextFile(join(d, "index.json"), "{"),
  "index.json names nothing": (d) => Deno.writeTextFile(join(d, "index.json"), "[]"),
  "index.json leads out": (d) =>
    Deno.writeTextFile(
      join(d, "index.json"),
      JSON.stringify({ manifests: [{ digest: "sha256:../../../etc/passwd" }] }),
    ),
  "index.json is too large": (d) =>
    Deno.writeTextFile(join(d, "index.json"), `{"x": "${"x".repeat(5 * 1024 * 1024)}"}`),
  "index.json is missing": (d) => Deno.remove(join(d, "index.json")),
  "its blobs are missing": (d) => Deno.remove(join(d, "blobs"), { recursive: true }),
};

for (const [what, damage] of Object.entries(DAMAGES)) {
  Deno.test(`readLayoutImage() throws FAILED_PRECONDITION when ${what}`, () =>
    withLayout(async (directory) => {
      await writeLayout(directory, {});
      await damage(directory);
      const error = await assertRejects(() => readLayoutImage(directory), CriError);
      assertEquals(error.code, "FAILED_PRECONDITION");
    }));
}
