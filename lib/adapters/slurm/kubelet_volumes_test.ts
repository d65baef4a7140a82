import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { CriError } from "../../base/error.ts";
import type { ArchiveEntry } from "./archive.ts";
import {
  CopyBudget,
  placeInVolume,
  placeOfPart,
  readVolume,
  volumeOfPart,
} from "./kubelet_volumes.ts";
import { TestVolumes } from "./test_volumes.ts";

/** Registers a test on a directory of the kubelet's. */
function test(name: string, use: (volumes: TestVolumes) => Promise<void>): void {
  Deno.test(name, async () => {
    await using volumes = await TestVolumes.create();
    await use(volumes);
  });
}

const summary = (entries: readonly ArchiveEntry[]) =>
  entries.map((entry) => {
    if (entry.kind === "link") return `${entry.name} -> ${entry.target}`;
    const mode = entry.mode.toString(8);
    const bytes = entry.kind === "file"
      ? ` ${new TextDecoder().decode(entry.content as Uint8Array)}`
      : "";
    return `${entry.name} ${mode}${bytes}`;
  });

test("readVolume() reads one version with its modes and links", async (volumes) => {
  const path = await volumes.write("configmap", "config", { "a": "one", "sub/b": "two" }, 0o440);
  await Deno.mkdir(join(path, "..2020_old"));
  const { version, entries } = await readVolume(path, "volumes/0", new CopyBudget());
  assertEquals(version, "..2026_1");
  assertEquals(summary(entries), [
    "volumes/0 755",
    "volumes/0/..2026_1 755",
    "volumes/0/..2026_1/a 440 one",
    "volumes/0/..2026_1/sub 755",
    "volumes/0/..2026_1/sub/b 440 two",
    "volumes/0/..data -> ..2026_1",
    "volumes/0/a -> ..data/a",
    "volumes/0/sub -> ..data/sub",
  ]);
});

test("readVolume() reads a single file, and lets its owner read it", async (volumes) => {
  const path = join(volumes.pod, "etc-hosts");
  await Deno.writeTextFile(path, "x");
  await Deno.chmod(path, 0o044);
  const { version, entries } = await readVolume(path, "hosts", new CopyBudget());
  assertEquals([version, summary(entries)], [undefined, ["hosts 444 x"]]);
});

for (const target of ["/etc/passwd", "../../x", "a/../../b"]) {
  test(`readVolume() refuses a link to ${target}`, async (volumes) => {
    const path = await volumes.write("secret", "s", {});
    await Deno.symlink(target, join(path, "link"));
    const read = () => readVolume(path, "v", new CopyBudget());
    assertEquals((await assertRejects(read, CriError, target)).code, "INVALID_ARGUMENT");
  });
}

test("readVolume() refuses a volume that is itself a link, a pipe, or not there", async (volumes) => {
  await Deno.symlink("/etc", join(volumes.pod, "link"));
  await new Deno.Command("mkfifo", { args: [join(volumes.pod, "pipe")] }).output();
  for (
    const [name, words] of [["link", "a link must lead"], ["pipe", "a file, a directory"], [
      "none",
      "No such file",
    ]] as const
  ) {
    await assertRejects(
      () => readVolume(join(volumes.pod, name), "v", new CopyBudget()),
      CriError,
      words,
    );
  }
});

test("readVolume() refuses more than fits", async (volumes) => {
  const path = await volumes.write("configmap", "big", { big: "x".repeat(17 * 1024 * 1024) });
  const budget = new CopyBudget();
  await readVolume(path, "v", budget);
  await assertRejects(() => readVolume(path, "w", budget), CriError, "at most 33554432 bytes");
});

test("placeOfPart() finds where the kubelet's part lies in its volume", async (volumes) => {
  const path = await volumes.empty("scratch");
  await Deno.mkdir(join(path, "a/it's b/c"), { recursive: true });
  for (const place of ["", "a", "a/it's b", "a/it's b/c"]) {
    // A bind mount is the same directory at another path.
    assertEquals(await placeOfPart(path, join(path, place, ".")), place);
  }
  const elsewhere = await volumes.empty("other");
  assertEquals(await placeOfPart(path, elsewhere), undefined);
  assertEquals(await placeOfPart(path, join(path, "missing")), undefined);
});

test("placeOfPart() finds a file, and tells it from a directory", async (volumes) => {
  const path = await volumes.empty("scratch");
  await Deno.mkdir(join(path, "a"));
  await Deno.writeTextFile(join(path, "a/file"), "");
  await Deno.link(join(path, "a/file"), join(volumes.pod, "part"));
  assertEquals(await placeOfPart(path, join(volumes.pod, "part")), "a/file");
});

test("placeInVolume() looks at the volumes of the name that count", async (volumes) => {
  const place = { podDirectory: volumes.pod, volume: "data" };
  for (const [plugin, below] of [["nfs", ""], ["csi", "mount"], ["empty-dir", ""]] as const) {
    const path = join(volumes.pod, "volumes", `kubernetes.io~${plugin}`, "data", below);
    await Deno.mkdir(join(path, "runs", plugin), { recursive: true });
    const hostPath = join(path, "runs", plugin, ".");
    assertEquals(await placeInVolume({ ...place, hostPath }, () => true), `runs/${plugin}`);
    const other = (name: string) => !name.endsWith(plugin);
    assertEquals(await placeInVolume({ ...place, hostPath }, other), undefined);
  }
});

test("volumeOfPart() tells copied, shared and other volumes apart", async (volumes) => {
  const secret = await volumes.write("secret", "s", {});
  const scratch = await volumes.empty("scratch");
  assertEquals(await volumeOfPart(volumes.pod, "s"), { kind: "copied", path: secret });
  assertEquals(await volumeOfPart(volumes.pod, "scratch"), { kind: "shared", path: scratch });
  assertEquals(await volumeOfPart(volumes.pod, "nfs"), undefined);
});
