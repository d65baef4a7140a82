/** Image names and credentials against the lab's registries, through crictl. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { Harness } from "./harness.ts";

const CREDENTIALS_FILE = "/run/registry-credentials.json";

let harness: Harness;
Deno.test.beforeAll(async () => {
  harness = await Harness.start({ name: "imgnames" });
});
Deno.test.afterAll(() => harness?.stop());

/** Every name of one image, as the kubelet or crictl hand it on. PORT is the registry with its port. */
const NAMES = [
  "multicri/docker-repository.lab/busybox:1",
  "multicri/docker-repository.docker.io/lab/busybox:1",
  "multicri/lab/busybox:1",
  "docker.io/multicri/docker-repository.lab/busybox:1",
  "docker-repository.lab/busybox:1",
  "lab/busybox:1",
  "docker.io/lab/busybox:1",
  "index.docker.io/lab/busybox:1",
  "registry.lab/lab/busybox:1",
  "multicri/registry.lab/lab/busybox:1",
  "multicri/docker-repository.registry.lab/lab/busybox:1",
  "multicri/docker-repository.ESCAPED/lab/busybox:1",
  "PORT/lab/busybox:1",
  "docker-repository.PORT/lab/busybox:1",
  "library/busybox",
  "busybox",
  "busybox:latest",
  "docker.busybox",
  "multicri/docker.busybox:latest",
];

function spelt(name: string): string {
  return name.replace("PORT", harness.lab.registry)
    .replace("ESCAPED", harness.lab.registry.replace(":", "0x--3a"));
}

Deno.test("every name of an image leads to one image with one file, which is listed under each", async () => {
  const { server, lab } = harness;
  const ids = new Set<string>();
  for (const name of NAMES) {
    await server.crictlOk(["pull", spelt(name)]);
    const { status } = JSON.parse(await server.crictlOk(["inspecti", "-o", "json", spelt(name)]));
    ids.add(status.id);
    const tagged = /:[^/:]+$/.test(spelt(name)) ? spelt(name) : `${spelt(name)}:latest`;
    assert(status.repoTags.includes(tagged), `${tagged} is not in ${status.repoTags}`);
  }
  assertEquals(ids.size, 1);
  const [id = ""] = ids;
  const files = await lab.exec("knode", ["ls", `${server.cachePath}/sif`]);
  assertEquals(files.stdout.split("\n").filter((name) => name === `${id.slice(7)}.sif`).length, 1);
  const digest = (JSON.parse(await server.crictlOk(["inspecti", "-o", "json", id])).status
    .repoDigests as string[]).find((one) => one.startsWith("lab/busybox@"));
  await server.crictlOk(["pull", digest ?? ""]);
  await server.crictlOk(["rmi", digest ?? ""]);
  assertEquals(await server.crictlOk(["images", "-q"]), "");
  const left = await lab.exec("knode", ["ls", `${server.cachePath}/sif`]);
  assertEquals(left.stdout, "");
});

const MALFORMED: readonly [name: string, says: RegExp][] = [
  ["multicri/sigularity-repository.a/b", /at character 10: .*singularity-repository/],
  ["multicri/local-image.../x", /at character 22: the path may not have the part/],
  ["multicri/docker-repository.a\u0007b", /at character \d+: .*U\+0007/],
  ["lab/Upper", /at character 5: .*lower case/],
  [`lab/${"x".repeat(300)}`, /at character \d+: .*255/],
  ["lab/büsybox", /at character 6: .*ü/],
  ["lab/busybox:1 && id", /at character 14: /],
  ["$(id)", /at character 1: /],
];
for (const [name, says] of MALFORMED) {
  Deno.test(`a pull is refused with the character's position when the name is ${JSON.stringify(name).slice(0, 50)}`, async () => {
    const { code, stderr } = await harness.server.crictl(["pull", name]);
    assert(code !== 0, "it was pulled");
    assertMatch(stderr, /InvalidArgument/);
    assertMatch(stderr, says);
  });
}

interface CredentialCase {
  name: string;
  creds?: string;
  pulled: boolean;
  /** What is said of the credentials, unless it is that they are refused. */
  says?: string;
}

/** The kubelet's credentials for a prefixed name are docker.io's, so they go to no other registry. */
const CASES: readonly CredentialCase[] = [
  { name: "GUARDED/lab/busybox:1", creds: "right", pulled: true },
  { name: "GUARDED/lab/busybox:1", creds: "wrong", pulled: false },
  { name: "GUARDED/lab/busybox:1", pulled: false },
  {
    name: "multicri/docker-repository.ESCAPED/lab/busybox:1",
    creds: "right",
    pulled: false,
    says: "wants credentials; those that came were not sent",
  },
  { name: "multicri/docker-repository.ESCAPED/lab/busybox:1", pulled: false },
  { name: "oras-repository.GUARDED/lab/busybox:1", pulled: false },
];

async function pullGuarded({ name, creds }: CredentialCase, from = harness) {
  const { address, username, password } = from.lab.guardedRegistry;
  const image = name.replace("GUARDED", address)
    .replace("ESCAPED", address.replace(":", "0x--3a"));
  const given = { right: `${username}:${password}`, wrong: `${username}:wrong $ecret` };
  const flags = creds === undefined ? [] : ["--creds", given[creds as "right" | "wrong"]];
  return await from.server.crictl(["pull", ...flags, image]);
}

for (const one of CASES) {
  const { name, creds = "no", pulled, says = "refuses" } = one;
  Deno.test(`a private image ${pulled ? "comes" : "does not come"} with ${creds} credentials when it is ${name}`, async () => {
    const { code, stderr } = await pullGuarded(one);
    assertEquals(code === 0, pulled, stderr);
    if (pulled) return;
    assertMatch(
      stderr,
      new RegExp(
        `Unauthenticated.*Cannot pull lab/busybox:1 from [\\d.]+:5001: the registry ${says}`,
      ),
    );
    for (const secret of [harness.lab.guardedRegistry.password, "wrong $ecret"]) {
      assert(!stderr.replace(/.*--creds.*/g, "").includes(secret), "a password was shown");
    }
  });
}

Deno.test("a private image comes by the node's own credentials under a prefixed name", async () => {
  const { lab } = harness;
  const { address, username, password } = lab.guardedRegistry;
  await Deno.writeTextFile(
    lab.path("knode", CREDENTIALS_FILE),
    JSON.stringify({ auths: { [address]: { auth: btoa(`${username}:${password}`) } } }),
    { mode: 0o600 },
  );
  const second = await Harness.start({
    name: "imgcreds",
    flags: ["--registry-credentials", CREDENTIALS_FILE],
  });
  try {
    const name = "multicri/docker-repository.ESCAPED/lab/busybox:1";
    const { code, stderr } = await pullGuarded({ name, pulled: true }, second);
    assertEquals(code, 0, stderr);
    // A pod's own credentials win over the node's.
    const wrong = await pullGuarded({
      name: "GUARDED/lab/entry:1",
      creds: "wrong",
      pulled: false,
    }, second);
    assertMatch(wrong.stderr, /Unauthenticated/);
  } finally {
    await second.stop();
    await Deno.remove(lab.path("knode", CREDENTIALS_FILE));
  }
});
