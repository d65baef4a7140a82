/** What can go wrong while an image comes: no part is ever used, and a repetition succeeds. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { delay } from "@std/async/delay";
import { join } from "@std/path";
import { Lab } from "../../scripts/lab/lab.ts";
import { Harness } from "../integration/harness.ts";
import { SlowRegistry } from "./slow_registry.ts";

/** Larger than what the small disks hold, and than what comes before a fault. */
const IMAGE_BYTES = 40 * 1000 * 1000;
const BEFORE_FAULT_BYTES = 10 * 1000 * 1000;
const SMALL_DISK = "25m";
const IMAGE = "faults/large:1";

const lab = new Lab();

Deno.test.beforeAll(async () => {
  await lab.up();
  await pushLargeImage();
});

/** An image of random bytes over busybox, which no compression makes small. */
async function pushLargeImage(): Promise<void> {
  const { code, stderr } = await lab.exec("knode", [
    "sh",
    "-euc",
    `rm -rf /tmp/large && mkdir -p /tmp/large && cd /tmp/large
apptainer --silent build --sandbox root docker://${lab.registry}/${lab.images.busybox}
head -c ${IMAGE_BYTES} /dev/urandom >root/large.bin
apptainer --silent build large.sif root
apptainer --silent push --no-https large.sif oras://${lab.registry}/${IMAGE}`,
  ], { timeoutMs: 120_000 });
  assertEquals(code, 0, stderr);
}

const pulled = `multicri/oras-repository.${SlowRegistry.nameIn(lab)}/${IMAGE}`;

async function withHarness(
  name: string,
  test: (harness: Harness, registry: SlowRegistry) => Promise<void>,
  env: Record<string, string> = {},
): Promise<void> {
  const harness = await Harness.start({ name, env });
  const registry = await SlowRegistry.start(lab);
  await harness.server.crictl(["rmi", pulled]);
  try {
    await test(harness, registry);
  } finally {
    registry.heal();
    await harness.server.crictl(["rmi", pulled]);
    await harness.stop();
    await registry.close();
  }
}

/** Files of pulls that are under way, and the large image in the lists. */
async function remains({ server }: Harness): Promise<{ work: string; images: string }> {
  const work = await lab.exec("knode", ["ls", join(server.cachePath, "work")]);
  const list = await server.crictlOk(["images"]);
  return { work: work.stdout, images: list.includes("faults/large") ? "listed" : "" };
}

Deno.test("a pull leaves nothing when the registry dies, and succeeds when it is back", () =>
  withHarness("regdies", async (harness, registry) => {
    registry.failAfter(BEFORE_FAULT_BYTES, "close");
    const { code, stderr } = await harness.server.crictl(["pull", pulled]);
    assert(code !== 0, "it was pulled");
    assertMatch(stderr, /Cannot pull faults\/large:1 from/);
    assertEquals(await remains(harness), { work: "", images: "" });
    registry.heal();
    await harness.server.crictlOk(["pull", pulled]);
    assertEquals((await remains(harness)).images, "listed");
  }));

Deno.test("a pull is forgotten when the server is killed, and succeeds after its restart", () =>
  withHarness("pullkill", async (harness, registry) => {
    registry.failAfter(BEFORE_FAULT_BYTES, "stall");
    const pulling = harness.server.crictl(["pull", pulled]);
    await registry.faulted;
    await harness.server.kill();
    assert((await pulling).code !== 0, "it was pulled");
    registry.heal();
    await harness.server.start();
    assertEquals(await remains(harness), { work: "", images: "" });
    await harness.server.crictlOk(["pull", pulled]);
  }));

Deno.test("a pull ends with a sentence when the pool's disk is full", () =>
  withHarness("pullfull", async (harness) => {
    const { server } = harness;
    await server.stop();
    await lab.exec("knode", ["rm", "-rf", server.cachePath]);
    await lab.exec("knode", ["mkdir", "-p", server.cachePath]);
    const mount = ["mount", "-t", "tmpfs", "-o", `size=${SMALL_DISK}`, "tmpfs", server.cachePath];
    assertEquals((await lab.exec("knode", mount)).code, 0);
    try {
      await server.start();
      const { code, stderr } = await server.crictl(["pull", pulled]);
      assert(code !== 0, "it was pulled");
      assertMatch(stderr, /ResourceExhausted.*the disk of the image pool .* is full/);
      assertEquals(await remains(harness), { work: "", images: "" });
      await lab.exec("knode", ["mount", "-o", "remount,size=500m", server.cachePath]);
      await server.crictlOk(["pull", pulled]);
      await server.crictlOk(["rmi", pulled]);
    } finally {
      await server.stop();
      await lab.exec("knode", ["umount", server.cachePath]);
      await server.start();
    }
  }));

Deno.test("a start ends with a sentence and leaves no part when the cluster's disk is full", () =>
  withHarness("upfull", async (harness) => {
    const place = `${lab.homePath}/small`;
    await harness.onCluster("mkdir -p small");
    const mount = ["mount", "-t", "tmpfs", "-o", `size=${SMALL_DISK},mode=1777`, "tmpfs"];
    const path = `/home/${lab.login.user}/small`;
    assertEquals((await lab.exec("ctl", [...mount, path])).code, 0);
    try {
      await harness.server.crictlOk(["pull", pulled]);
      const made = await harness.create({ image: pulled, command: ["/bin/true"] });
      const { code, stderr } = await harness.server.crictl(["start", made.container]);
      assert(code !== 0, "it was started");
      assertMatch(stderr, /small/);
      assertEquals((await lab.exec("ctl", ["ls", "-A", path])).stdout, "");
      await harness.server.crictlOk(["rmp", "--force", made.pod]);
    } finally {
      await lab.exec("ctl", ["umount", path]);
      await Deno.remove(place);
    }
  }, { CRI_SLURM_IMAGE_REMOTE_MOUNT: "small" }));

Deno.test("a start goes on when the server is killed in the middle of an upload", () =>
  withHarness("upkill", async (harness) => {
    await harness.onCluster("rm -rf multi-cri/.images");
    await harness.server.crictlOk(["pull", pulled]);
    const made = await harness.create({ image: pulled, command: ["/bin/echo", "whole"] });
    const starting = harness.server.crictl(["start", made.container]);
    const images = join(lab.homePath, "multi-cri/.images");
    while (!await anyPart(images)) await delay(1);
    await harness.server.kill();
    await starting;
    assertEquals(await landed(images), [], "the upload was over already");
    await harness.server.start();
    // The upload's holder is known to be dead when nothing of it changed for a minute.
    const deadline = performance.now() + 150_000;
    while ((await harness.inspect(made.container)).status.state !== "CONTAINER_EXITED") {
      assert(performance.now() < deadline, "the job did not end");
      await delay(500);
    }
    assertEquals((await harness.inspect(made.container)).status.exitCode, 0);
    assertEquals((await harness.logs(made.container)).stdout, ["whole"]);
    assertEquals((await harness.jobsOf(made.container)).length, 1);
    await harness.removeCleanly(made);
  }));

async function names(directory: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(directory))).map(({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

async function anyPart(directory: string): Promise<boolean> {
  return (await names(directory)).some((name) => name.endsWith(".part"));
}

async function landed(directory: string): Promise<string[]> {
  return (await names(directory)).filter((name) => name.endsWith(".sif"));
}
