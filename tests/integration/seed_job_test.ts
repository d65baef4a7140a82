/** The Jobs of the seed's own guide, as they stand there, made into CRI calls. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { readPodManifest } from "../../scripts/pod_manifest.ts";
import { Harness } from "./harness.ts";

let harness: Harness;
Deno.test.beforeAll(async () => {
  harness = await Harness.start({ name: "seedjob" });
  // The images of the manifests, from what the cluster takes for docker.io.
  const tls = ["--src-tls-verify=false", "--dest-tls-verify=false"];
  const registry = "docker://localhost:5000";
  for (const image of ["library/perl.img:latest", "library/perl:latest"]) {
    const places = [`${registry}/lab/busybox:1`, `${registry}/${image}`];
    const copy = ["skopeo", "copy", "--quiet", ...tls, ...places];
    const { code, stderr } = await harness.lab.exec("registry", copy);
    assertEquals(code, 0, stderr);
  }
});
Deno.test.afterAll(() => harness?.stop());

/** CLUSTER_CONFIG of the manifest's Secret: the program sees what it exports. */
const PRERUN = "export APPTAINERENV_CONFIGURED=yes";

/** The CRI form of a manifest, with the Secret that it takes its cluster from. */
async function readSeedManifest(name: string) {
  const { host, port, user, password } = harness.lab.login;
  const values = {
    username: user,
    password,
    host,
    port: String(port),
    config: PRERUN,
    queue: "main",
  };
  const secret =
    `apiVersion: v1\nkind: Secret\nmetadata: { name: trujillo-secret }\nstringData: {}\n---\n`;
  const manifest = new URL(`../testdata/${name}`, import.meta.url);
  const { sandbox, containers: [one], runtimeHandler } = readPodManifest(
    secret + await Deno.readTextFile(manifest),
    { uid: crypto.randomUUID(), podLogsDir: "/var/log/pods", secretValues: values },
  );
  if (one === undefined) throw new Error("The manifest has no container");
  return { sandbox, one, runtimeHandler };
}

Deno.test("the seed's Job with an NFS volume runs, and its results stay in the volume", async () => {
  const { server } = harness;
  const { sandbox, one, runtimeHandler } = await readSeedManifest("seed_job_with_volume.yaml");
  const [sleep, , ...rest] = one.config.command;
  assertEquals(one.config.command, ["sleep", "60", "&&", "ls", "/"]);
  assertEquals(one.config.mounts.map(({ container_path }) => container_path), ["/multicri"]);
  await harness.onCluster("mkdir -p multi-cri/nfs-vol1; echo here >multi-cri/nfs-vol1/input");
  await server.crictlOk(["pull", one.image]);
  const sandboxFile = await server.writeJson("seedjob-pod.json", sandbox);
  const containerFile = await server.writeJson("seedjob-container.json", {
    ...one.config,
    // A minute of the manifest's own is none of the test's.
    command: [sleep, "1", ...rest],
  });
  const pod = await server.crictlOk(["runp", "--runtime", runtimeHandler, sandboxFile]);
  const container = await server.crictlOk(["create", pod, containerFile, sandboxFile]);
  await server.crictlOk(["start", container]);
  const { status } = await harness.exited(container);
  const { stdout, own } = await harness.logs(container);
  assertEquals(status.exitCode, 0, own.join("\n"));
  for (const name of ["bin", "etc", "multicri", "tmp"]) assert(stdout.includes(name), name);
  const results = `multi-cri/nfs-vol1/${pod}/${container}`;
  assertMatch(own.join("\n"), new RegExp(`results in /.*/${results}$`, "m"));
  assertStringIncludes(await harness.onCluster(`find multi-cri/nfs-vol1`), results);
  await harness.removeCleanly({ pod, container });
  await harness.onCluster("rm multi-cri/nfs-vol1/input; rmdir multi-cri/nfs-vol1");
});

Deno.test("the seed's MPI Job runs its two ranks", async () => {
  const { server } = harness;
  const { sandbox, one, runtimeHandler } = await readSeedManifest("seed_mpi_job.yaml");
  await server.crictlOk(["pull", one.image]);
  const sandboxFile = await server.writeJson("seedmpi-pod.json", sandbox);
  const containerFile = await server.writeJson("seedmpi-container.json", one.config);
  const pod = await server.crictlOk(["runp", "--runtime", runtimeHandler, sandboxFile]);
  const container = await server.crictlOk(["create", pod, containerFile, sandboxFile]);
  await server.crictlOk(["start", container]);
  const { status } = await harness.exited(container);
  const { stdout, stderr } = await harness.logs(container);
  assertEquals([status.exitCode, stderr], [0, []]);
  // Open MPI gives ranks a terminal, on which ls has columns.
  const words = stdout.flatMap((line) => line.split(/\s+/));
  for (const name of ["bin", "etc", "tmp"]) {
    assertEquals(words.filter((word) => word === name).length, 2, name);
  }
  await harness.removeCleanly({ pod, container });
});
