import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { dirname, join } from "@std/path";
import { CriError } from "../../base/error.ts";
import type { MountSource, PlannedMount } from "./mounts.ts";
import { mustLieIn, stageMounts, stageResults, type Staging } from "./staging.ts";
import { TestVolumes } from "./test_volumes.ts";

const DIRECTORY = "/home/u/multi-cri/s1/c1";
const SHARED = "/home/u/multi-cri/s1/volumes";
const VOLUME = "/home/u/multi-cri/nfs-vol1";

const at = (destination: string, source: MountSource, readonly = false): PlannedMount => ({
  destination,
  readonly,
  ...source,
});

/** A part of a volume, as the kubelet shows it at another path; only its identity counts. */
const part = (destination: string, { pod }: TestVolumes, volume: string, hostPath: string) =>
  at(destination, { kind: "part", volume, hostPath, podDirectory: pod });

const stage = (...mounts: PlannedMount[]): Promise<Staging> =>
  stageMounts(mounts, { directory: DIRECTORY, volume: VOLUME });

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
  const volume = [
    { root: dirname(SHARED), part: "volumes", mode: 0o700 },
    { root: SHARED, part: "scratch", mode: 0o777 },
  ];
  assertEquals(staging.made, [
    ...volume,
    ...volume,
    { root: `${SHARED}/scratch`, part: "a/b", mode: 0o777 },
  ]);
  assertStringIncludes(staging.preparation, "realpath");
  assertEquals(staging.replaceable, ["/part"]);
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
    { root: `${SHARED}/scratch`, part: "config", mode: 0o777 },
    { root: VOLUME, part: "x/y", mode: 0o755 },
  ]);
  assertEquals(staging.replaceable, ["/all/config", "/multicri/x/y"]);
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
  assertEquals(staging.made, [{ root: "/home/u/m/nfs", part: "s1/c1", mode: 0o755 }]);
  assertEquals([staging.replaceable, staging.preparation], [[], ""]);
});

/** The volume at /multicri, of which the kubelet made a part available. */
const volumeAt = ({ pod }: TestVolumes, hostPath: string, ofAnyVolume = false) => {
  const part = { volume: "data", hostPath, podDirectory: pod, ofAnyVolume };
  return at("/multicri", { kind: "volume", claim: "nfs-vol1", part });
};

test("stageMounts() mounts a part of the volume at /multicri, and results stay in it", async (volumes) => {
  const path = join(volumes.pod, "volumes/kubernetes.io~nfs/data");
  await Deno.mkdir(join(path, "runs/it's one"), { recursive: true });
  const staging = await stage(volumeAt(volumes, join(path, "runs/it's one/.")));
  assertEquals(staging.binds, [
    { source: `${VOLUME}/runs/it's one`, destination: "/multicri", readonly: false },
  ]);
  assertEquals(staging.made, [{ root: VOLUME, part: "runs/it's one", mode: 0o755 }]);
  assertEquals(staging.replaceable, ["/multicri"]);
  assertStringIncludes(staging.preparation, "realpath");
  assertEquals(stageResults(staging, VOLUME, "s1", "c1"), `${VOLUME}/runs/it's one/s1/c1`);
});

test("stageMounts() refuses a part of the volume at /multicri when the node does not show which", async (volumes) => {
  const path = await volumes.empty("data");
  await Deno.mkdir(join(path, "part"));
  await Deno.writeTextFile(join(path, "file"), "");
  const part = join(path, "part/.");
  // Of an emptyDir, which the cluster does not have, unless the pod names the cluster's directory.
  const refused = [
    volumeAt(volumes, part),
    volumeAt(volumes, join(path, "file"), true),
    volumeAt(volumes, join(path, "missing"), true),
    volumeAt(volumes, volumes.pod, true),
  ];
  for (const mounted of refused) {
    const error = await assertRejects(() => stage(mounted), CriError, "without subPath");
    assertEquals(error.code, "INVALID_ARGUMENT");
  }
  assertEquals((await stage(volumeAt(volumes, part, true))).volumePart, "part");
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
