/** CRI_SLURM_BUILD_IN_CLUSTER: the cluster pulls for itself what needs no credentials. */
import { assertEquals } from "@std/assert";
import { BUSYBOX, ENTRY, Harness } from "./harness.ts";

Deno.test("a cluster pulls an image itself, and the node has nothing of it", async () => {
  const harness = await Harness.start({
    name: "incluster",
    env: { CRI_SLURM_BUILD_IN_CLUSTER: "true" },
  });
  const { server, lab } = harness;
  try {
    await harness.onCluster("rm -rf multi-cri/.images");
    await server.crictlOk(["pull", ENTRY]);
    assertEquals((await lab.exec("knode", ["ls", `${server.cachePath}/sif`])).stdout, "");
    const made = await harness.run({ image: ENTRY });
    await harness.exited(made.container);
    const { stdout, own } = await harness.logs(made.container);
    assertEquals(stdout.slice(0, 2), ["arg1=from entrypoint", "arg2=from cmd"]);
    assertEquals(
      own.filter((line) => /^pulling docker:\/\/docker.io\/lab\/entry@sha256:/.test(line)).length,
      1,
    );
    await harness.removeCleanly(made);
    // What came with credentials is not the cluster's to fetch.
    await server.crictlOk(["rmi", ENTRY]);
    await harness.onCluster("rm -r multi-cri/.images");
    const guarded = `${lab.guardedRegistry.address}/${lab.images.entry}`;
    const { username, password } = lab.guardedRegistry;
    await server.crictlOk(["pull", "--creds", `${username}:${password}`, guarded]);
    const files = (await lab.exec("knode", ["ls", `${server.cachePath}/sif`])).stdout;
    assertEquals(files.trim().split("\n").length, 1);
    const second = await harness.run({ image: guarded, command: ["/bin/echo", "guarded"] });
    await harness.exited(second.container);
    assertEquals((await harness.logs(second.container)).stdout, ["guarded"]);
    await harness.removeCleanly(second);
    for (const image of [BUSYBOX, guarded]) await server.crictlOk(["rmi", image]);
  } finally {
    await harness.stop();
  }
});

Deno.test("a cluster pulls an image in a job of its own when it is told so", async () => {
  const harness = await Harness.start({
    name: "injob",
    env: { CRI_SLURM_BUILD_IN_CLUSTER: "job" },
  });
  try {
    await harness.onCluster("rm -rf multi-cri/.images");
    const made = await harness.run({ command: ["/bin/echo", "made in a job"] });
    await harness.exited(made.container);
    assertEquals((await harness.logs(made.container)).stdout, ["made in a job"]);
    const jobs = await harness.onCluster(
      "scontrol --oneliner show jobs | grep -c JobName=multicri-image",
    );
    assertEquals(Number(jobs) > 0, true);
    await harness.removeCleanly(made);
    await harness.server.crictlOk(["rmi", BUSYBOX]);
  } finally {
    await harness.stop();
  }
});
