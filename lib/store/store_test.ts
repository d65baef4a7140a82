import { assertEquals, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { CriError } from "../base/error.ts";
import { ContainerConfig, PodSandboxConfig } from "../cri/api.generated.ts";
import { Store } from "./store.ts";

async function withDirectory(test: (directory: string) => Promise<void> | void): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    await test(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

const open = (directory: string) =>
  Store.open({ podsDir: directory, rootDir: directory, imagesDir: directory });

Deno.test("Store keeps every kind of record when it is opened again", () =>
  withDirectory((directory) => {
    const sandbox = {
      id: "s",
      config: PodSandboxConfig.fromPartial({ hostname: "h", labels: { a: "b" } }),
      runtimeHandler: "multicri",
      createdAtMs: 1,
      state: "ready" as const,
    };
    const container = {
      id: "c",
      sandboxId: "s",
      config: ContainerConfig.fromPartial({
        args: ["ünïcode", ""],
        linux: { resources: { cpuQuota: 5n } },
      }),
      configDigest: "d",
      imageId: "i",
      createdAtMs: 2,
      state: { phase: "running" as const, startedAtMs: 3 },
      workload: { jobId: "7" },
    };
    {
      using store = open(directory);
      store.sandboxes.put(sandbox);
      store.containers.put(container);
    }
    using store = open(directory);
    assertEquals(store.sandboxes.get("s"), sandbox);
    assertEquals(store.containers.get("c"), container);
  }));

Deno.test("Store.open() refuses with a sentence when another server uses the records", () =>
  withDirectory((directory) => {
    using store = open(directory);
    store.sandboxes.delete("nothing");
    const error = assertThrows(() => open(directory), CriError);
    assertEquals((error as CriError).code, "FAILED_PRECONDITION");
  }));

Deno.test("Store.open() refuses with a sentence when the file is no database", () =>
  withDirectory(async (directory) => {
    await Deno.writeTextFile(join(directory, "pods.db"), "x".repeat(5000));
    assertThrows(() => open(directory), CriError, "Cannot open the records in");
  }));

Deno.test("SecretFiles keeps secrets readable by the owner only", () =>
  withDirectory(async (directory) => {
    using store = open(directory);
    await store.secrets.write("c1", { password: "p" });
    await store.secrets.write("c1", { password: "q" });
    assertEquals(await store.secrets.read("c1"), { password: "q" });
    const mode = async (path: string) =>
      ((await Deno.stat(join(directory, path))).mode ?? 0) & 0o777;
    assertEquals([await mode("secrets"), await mode("secrets/c1.json"), await mode("pods.db")], [
      0o700,
      0o600,
      0o600,
    ]);
    assertEquals(await store.secrets.ids(), ["c1"]);
    await store.secrets.delete("c1");
    await store.secrets.delete("c1");
    assertEquals(await store.secrets.read("c1"), undefined);
  }));

Deno.test("SecretFiles keeps one whole change when several come at once", () =>
  withDirectory(async (directory) => {
    using store = open(directory);
    const long = "x".repeat(10_000);
    await Promise.all([
      store.secrets.write("c1", { long }),
      store.secrets.update("c1", (value) => ({ ...value as object, more: true })),
      store.secrets.write("c2", { long }),
      store.secrets.delete("c2"),
      store.secrets.update("c2", () => ({ back: "again" })),
    ]);
    assertEquals(await store.secrets.read("c1"), { long, more: true });
    assertEquals(await store.secrets.ids(), ["c1"]);
  }));

Deno.test("SecretFiles.ids() removes what an interrupted write left", () =>
  withDirectory(async (directory) => {
    using store = open(directory);
    await Deno.writeTextFile(join(directory, "secrets", "c2.json.tmp"), "{");
    assertEquals(await store.secrets.ids(), []);
    assertEquals(await Array.fromAsync(Deno.readDir(join(directory, "secrets"))), []);
  }));
