/** Fifty pods with one image on a cluster that has none: one download, one upload, and no secret anywhere. */
import { assert, assertEquals } from "@std/assert";
import { sampleCommandLines } from "./command_lines.ts";
import { Harness } from "./harness.ts";

const PODS = 50;
/** Large enough for its upload to be told in a container's log. */
const IMAGE_BYTES = 20 * 1000 * 1000;
const REPOSITORY = "crowd/large";

Deno.test("fifty pods with one private image cause one download and one upload", async () => {
  const harness = await Harness.start({ name: "crowd" });
  const { lab, server } = harness;
  const { address, username, password } = lab.guardedRegistry;
  // A digest that no registry, pool or cluster has seen.
  const made = await lab.exec("knode", [
    "sh",
    "-euc",
    `rm -rf /tmp/crowd && mkdir /tmp/crowd && cd /tmp/crowd
apptainer --silent build --sandbox root docker://${lab.registry}/${lab.images.busybox}
head -c ${IMAGE_BYTES} /dev/urandom >root/large.bin
apptainer --silent build large.sif root
apptainer --silent push --no-https large.sif oras://${lab.registry}/${REPOSITORY}:1`,
  ], { timeoutMs: 120_000 });
  assertEquals(made.code, 0, made.stderr);
  const image = `oras-repository.${address}/${REPOSITORY}:1`;
  const secrets = [password, btoa(password), btoa(`${username}:${password}`)].map((text) =>
    text.replace(/=+$/, "")
  );
  const sampling = new AbortController();
  const sampled = sampleCommandLines(sampling.signal);
  try {
    await server.crictl(["rmi", image]);
    const before = await blobsServed(harness);
    const sentBefore = await sentBytes(harness);
    const pod = async () => {
      const made = await harness.create({ image, command: ["/bin/echo", "one of fifty"] });
      await server.crictlOk(["start", made.container]);
      return made;
    };
    await Promise.all(Array.from({ length: PODS }, () => pullWithCredentials(harness, image)));
    const pods = await Promise.all(Array.from({ length: PODS }, pod));
    const uploads: string[] = [];
    for (const { container } of pods) {
      assertEquals((await harness.exited(container)).status.exitCode, 0);
      const { own, stdout } = await harness.logs(container);
      assertEquals(stdout, ["one of fifty"]);
      uploads.push(...own.filter((line) => line.startsWith("uploading the image")));
    }
    assertEquals(await blobsServed(harness) - before, 1);
    assertEquals(uploads.length, 1);
    // Whatever carries it: the image left the node once. The rest is commands, job files and requests.
    const sent = await sentBytes(harness) - sentBefore;
    assert(sent > IMAGE_BYTES && sent < 2 * IMAGE_BYTES, `the node sent ${sent} bytes`);
    for (const { pod } of pods) await server.crictlOk(["rmp", "--force", pod]);
  } finally {
    sampling.abort();
  }
  const seen = await sampled;
  assert(seen.some((line) => /skopeo .*inspect/.test(line)), "no pull was seen");
  assertEquals(/OpenSSH's client cannot|by ssh2/.exec(await server.log()), null);
  // crictl itself is given them on its command line.
  const guilty = seen.filter((line) =>
    !line.includes("crictl") && [...secrets, lab.login.password].some((s) => line.includes(s))
  );
  assertEquals(guilty, []);
  for (const directory of [server.rootDir, server.stateDir, server.cachePath, server.logPath]) {
    const { stdout } = await lab.exec("knode", [
      "grep",
      "-rlF",
      ...secrets.flatMap((secret) => ["-e", secret]),
      directory,
    ]);
    assertEquals(stdout, "", "a secret was left on the node");
  }
  await server.crictlOk(["rmi", image]);
  await harness.stop();
});

async function pullWithCredentials({ server, lab }: Harness, image: string): Promise<void> {
  const { username, password } = lab.guardedRegistry;
  await server.crictlOk(["pull", "--creds", `${username}:${password}`, image]);
}

/** How often the registry behind the password has given the image's file away. */
async function blobsServed({ lab }: Harness): Promise<number> {
  const port = lab.guardedRegistry.address.split(":")[1];
  const log = await Deno.readTextFile(lab.path("registry", `/var/log/registry-${port}.out`));
  const served = new RegExp(`"GET /v2/${REPOSITORY}/blobs/\\S+ HTTP/1.1" 200 (\\d+)`, "g");
  return [...log.matchAll(served)].filter((match) => Number(match[1]) > IMAGE_BYTES).length;
}

/** What the node has sent over its network so far, in bytes: all of it goes to the cluster or the registries. */
async function sentBytes({ lab }: Harness): Promise<number> {
  const { stdout } = await lab.exec("knode", ["cat", "/proc/net/dev"]);
  // Behind an interface's name stand 8 figures of what came in; the first of the next 8 is bytes sent (proc(5)).
  return stdout.split("\n").filter((line) => /^\s*(?!lo:)\w+:/.test(line))
    .map((line) => Number(line.split(":")[1]?.trim().split(/\s+/)[8]))
    .reduce((sum, bytes) => sum + bytes, 0);
}
