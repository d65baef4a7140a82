import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { CriError } from "../../base/error.ts";
import type { MountSource, PlannedMount } from "./mounts.ts";
import { mustLieIn, stageMounts, stageResults, type Staging } from "./staging.ts";
import { TestVolumes } from "./test_volumes.ts";

const DIRECTORY = "/home/u/multi-cri/s1/c1";
const SHARED = "/home/u/multi-cri/s1/volumes";

const at = (destination: string, source: MountSource, readonly = false): PlannedMount => ({
  destination,
  readonly,
  ...source,
});

/** A part of a volume, as the kubelet shows it at another path; only its identity counts. */
const part = (destination: string, { pod }: TestVolumes, volume: string, hostPath: string) =>
  at(destination, { kind: "part", volume, hostPath, podDirectory: pod });

const stage = (...mounts: PlannedMount[]): Promise<Staging> =>
  stageMounts(mounts, { directory: DIRECTORY, volume: "/home/u/multi-cri/nfs-vol1" });

/** Registers a test on a directory of the kubelet's. */
function test(name: string, use: (volumes: TestVolumes) => Promise<void>): void {
  Deno.test(name, async () => {
    await using volumes = await TestVolumes.create();
    await use(volumes);
  });
}

test("stageMounts() copies what the kubelet wrote, each by its number", async (volumes) => {
  const config = await volumes.write("configmap", "config", { a: "1" });
  const secret = await volumes.write("secret", "secret", { b: "2" });
  const staging = await stage(
    at("/config", { kind: "copied", hostPath: config }, true),
    part("/b", volumes, "secret", join(secret, "..2026_2/b")),
  );
  assertEquals(staging.binds, [
    { source: `${DIRECTORY}/volumes/0`, destination: "/config", readonly: true },
    { source: `${DIRECTORY}/volumes/1`, destination: "/b", readonly: false },
  ]);
  const names = staging.entries.map(({ name }) => name);
  assertEquals([names[0], names.at(-1)], ["volumes/0", "volumes/1"]);
  assertEquals([staging.made, staging.shares, staging.preparation], [[], false, ""]);
});

test("stageMounts() makes shared volumes in the sandbox's directory", async (volumes) => {
  const path = await volumes.empty("scratch");
  await Deno.mkdir(join(path, "a/b"), { recursive: true });
  const staging = await stage(
    at("/all", { kind: "shared", volume: "scratch" }),
    part("/part", volumes, "scratch", join(path, "a/b")),
  );
  assertEquals(staging.binds.map(({ source }) => source), [
    `${SHARED}/scratch`,
    `${SHARED}/scratch/a/b`,
  ]);
  assertEquals(staging.shares, true);
  assertEquals(
    new Set(staging.made.map(({ path }) => path)),
    new Set([
      SHARED,
      `${SHARED}/scratch`,
      `${SHARED}/scratch/a`,
      `${SHARED}/scratch/a/b`,
    ]),
  );
  assertStringIncludes(staging.preparation, "realpath");
});

test("stageMounts() makes places for what is mounted in volumes that others write", async (volumes) => {
  const config = await volumes.write("configmap", "config", { a: "1" });
  const copied = { kind: "copied", hostPath: config } as const;
  const staging = await stage(
    at("/all", { kind: "shared", volume: "scratch" }),
    at("/multicri", { kind: "volume", claim: "nfs-vol1" }),
    at("/all/config", copied),
    at("/all/config/again", copied),
    at("/multicri/x/y", copied),
  );
  assertEquals(staging.made.slice(2), [
    { path: `${SHARED}/scratch/config`, mode: 0o777 },
    { path: "/home/u/multi-cri/nfs-vol1/x", mode: 0o755 },
    { path: "/home/u/multi-cri/nfs-vol1/x/y", mode: 0o755 },
  ]);
});

test("stageMounts() refuses a mount within a file, or twice at one place", async (volumes) => {
  const hostPath = join(volumes.pod, "etc-hosts");
  await Deno.writeTextFile(hostPath, "");
  const shared = { kind: "shared", volume: "scratch" } as const;
  for (
    const mounts of [
      [at("/etc/hosts", { kind: "hosts", hostPath }), at("/etc/hosts/x", shared)],
      [at("/a", shared), at("/a", shared)],
    ]
  ) {
    const error = await assertRejects(
      () => stage(...mounts),
      CriError,
      "something else is mounted",
    );
    assertEquals(error.code, "INVALID_ARGUMENT");
  }
});

test("stageMounts() refuses a part of a volume that only the node has", async (volumes) => {
  await assertRejects(
    () => stage(part("/x", volumes, "nfs", join(volumes.pod, "volume-subpaths/nfs/main/0"))),
    CriError,
    "only the node has",
  );
});

test("stageResults() puts results where the seed has them", async () => {
  const staging = await stage();
  assertEquals(stageResults(staging, "/home/u/m/nfs", "s1", "c1"), "/home/u/m/nfs/s1/c1");
  assertEquals(staging.made, [
    { path: "/home/u/m/nfs/s1", mode: 0o755 },
    { path: "/home/u/m/nfs/s1/c1", mode: 0o755 },
  ]);
});

/** Runs a line as the job does; what it refuses is what it prints. */
async function prepare(line: string): Promise<string> {
  const script = `multicri_refuse() { printf '%s' "$2"; exit "$1"; }\n${line}`;
  const { stdout, stderr } = await new Deno.Command("bash", { args: ["-c", script] }).output();
  return new TextDecoder().decode(stdout) || new TextDecoder().decode(stderr);
}

Deno.test("mustLieIn() refuses a part in whose way a link lies, whatever its name is", async () => {
  const parent = await Deno.makeTempDir();
  const root = join(parent, "it's [a] * $(id)");
  await Deno.mkdir(join(root, "real dir/b*"), { recursive: true });
  await Deno.symlink("real dir", join(root, "link"));
  await Deno.symlink("/etc", join(root, "out"));
  await Deno.symlink(root, `${root}-itself`);
  for (const start of [root, `${root}-itself`]) {
    assertEquals(await prepare(mustLieIn(start, "real dir/b*")), "");
    for (const part of ["link/b*", "link", "out", "out/passwd", "missing"]) {
      assert((await prepare(mustLieIn(start, part))).includes("but a link"), part);
    }
  }
  await Deno.remove(parent, { recursive: true });
});
