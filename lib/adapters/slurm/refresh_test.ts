import { assertEquals, assertStringIncludes } from "@std/assert";
import { dirname, join } from "@std/path";
import { CriError } from "../../base/error.ts";
import { createLogger } from "../../base/log.ts";
import { TestClock } from "../../base/test_clock.ts";
import { ContainerConfig, Mount } from "../../cri/api.generated.ts";
import { containerRecord, sandboxRecord, TestStore } from "../../store/test_store.ts";
import { ClusterAccount } from "./account.ts";
import { archiveOf } from "./archive.ts";
import { VolumeRefresh } from "./refresh.ts";
import { stageMounts } from "./staging.ts";
import { planMounts } from "./mounts.ts";
import { TestCluster } from "./test_cluster.ts";
import { TestVolumes } from "./test_volumes.ts";

interface Place {
  cluster: TestCluster;
  volumes: TestVolumes;
  clock: TestClock;
  lines: string[];
  /** What the job reads in the volume. */
  read: (name: string) => Promise<string | undefined>;
  /** Lets time pass until that is so. */
  until: (holds: () => Promise<boolean>) => Promise<void>;
}

/** Registers a test on a running container with a Secret and a part of it. */
function test(name: string, use: (place: Place) => Promise<void>): void {
  Deno.test(name, async () => {
    await using cluster = await TestCluster.create();
    await using records = await TestStore.open();
    await using volumes = await TestVolumes.create();
    const clock = new TestClock();
    const lines: string[] = [];
    const secret = await volumes.write("secret", "s", { token: "first" });
    const mounts = [{ containerPath: "/hosts", hostPath: join(volumes.pod, "etc-hosts") }, {
      containerPath: "/secret/x",
      hostPath: secret,
    }].map((mount) => Mount.fromPartial(mount));
    await Deno.writeTextFile(join(volumes.pod, "etc-hosts"), "");
    const sandbox = sandboxRecord();
    if (sandbox.config.metadata) sandbox.config.metadata.uid = "u";
    records.store.sandboxes.put(sandbox);
    const container = containerRecord({
      config: ContainerConfig.fromPartial({ metadata: { name: "main" }, mounts }),
    });
    const directory = join(cluster.home, "s1/c1");
    const plan = planMounts(container.config, sandbox.config, volumes.root);
    const { entries } = await stageMounts(plan, { directory, volume: undefined });
    await cluster.run(`mkdir -p '${directory}' && cd '${directory}' && tar -xpf -`, {
      stdin: await archiveOf([{ kind: "directory", name: "volumes", mode: 0o700 }, ...entries]),
    });
    const account = new ClusterAccount(
      cluster.session,
      { mountPath: "m", imageRemoteMount: undefined },
      cluster.lines,
    );
    const log = createLogger({ threshold: "info", write: (line) => void lines.push(line) });
    const refresh = new VolumeRefresh(account, records.store, volumes.root, clock, log);
    refresh.add(container, directory);
    try {
      await use({
        cluster,
        volumes,
        clock,
        lines,
        read: (name) =>
          Deno.readTextFile(join(directory, "volumes/1", name)).catch(() => undefined),
        until: async (holds) => {
          while (!await holds()) {
            clock.advance(10_000);
            await new Promise((done) => setTimeout(done, 5));
          }
        },
      });
    } finally {
      refresh.remove(container.id);
      await refresh.close();
    }
  });
}

test("VolumeRefresh brings each new version once", async ({ volumes, read, until, lines }) => {
  await volumes.write("secret", "s", { token: "second", more: "x" });
  // New names come after the new version, as the kubelet has them.
  await until(async () => await read("token") === "second" && await read("more") === "x");
  await volumes.write("secret", "s", { token: "third" });
  await until(async () => await read("more") === undefined);
  assertEquals(await read("token"), "third");
  // Each is told of after it came; nothing comes a third time.
  const told = () => lines.filter((line) => line.includes("up to date")).length;
  await until(() => Promise.resolve(told() >= 2));
  let looks = 0;
  await until(() => Promise.resolve(++looks > 3));
  assertEquals(told(), 2);
});

test("VolumeRefresh tries again, and says so once, while the cluster is away", async (place) => {
  const { cluster, volumes, read, until, lines } = place;
  cluster.offline = new CriError("UNAVAILABLE", "no route");
  await volumes.write("secret", "s", { token: "second" });
  await until(() => Promise.resolve(lines.some((line) => line.includes("no route"))));
  let looks = 0;
  await until(() => Promise.resolve(++looks > 3));
  cluster.offline = undefined;
  await until(async () => await read("token") === "second");
  assertEquals(lines.filter((line) => line.includes("no route")).length, 1);
});

test("VolumeRefresh leaves the copy alone when the kubelet takes the pod away", async (place) => {
  const { volumes, read, until, lines } = place;
  await Deno.remove(dirname(volumes.pod), { recursive: true });
  let looks = 0;
  await until(() => Promise.resolve(++looks > 3));
  assertEquals([await read("token"), lines], ["first", []]);
});

test("VolumeRefresh says what went wrong when the cluster takes no files", async (place) => {
  const { cluster, volumes, read, until, lines } = place;
  await cluster.program("mv", "\necho 'no space' >&2; exit 1");
  await volumes.write("secret", "s", { token: "second" });
  await until(() => Promise.resolve(lines.length > 0));
  assertStringIncludes(lines.join("\n"), "no space");
  assertEquals(await read("token"), "first");
});
