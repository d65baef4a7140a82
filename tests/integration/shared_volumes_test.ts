/** Volumes that the containers of a pod share, on the real lab. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { Harness } from "./harness.ts";
import { runPod } from "./pod_containers.ts";
import { mount, PodDirectory } from "./pod_directory.ts";

let harness: Harness;
Deno.test.beforeAll(async () => {
  harness = await Harness.start({ name: "shared" });
});
Deno.test.afterAll(() => harness?.stop());

const sh = (script: string) => ["/bin/sh", "-c", script];

Deno.test("containers of a pod share an emptyDir when their jobs run one after the other and beside each other", async () => {
  const pod = new PodDirectory(harness.lab);
  const scratch = await pod.empty("scratch");
  // The kubelet makes a part of it (subPath) available at a path of its own.
  await pod.run(
    `mkdir -p -m 777 "volumes/kubernetes.io~empty-dir/scratch/a/it's b" volume-subpaths/scratch/main/0
    mount --bind "volumes/kubernetes.io~empty-dir/scratch/a/it's b" volume-subpaths/scratch/main/0`,
  );
  const part = `${pod.path}/volume-subpaths/scratch/main/0`;
  const { id: sandbox, run } = await runPod(harness, { uid: pod.uid });
  const first = await run("init", {
    // What a download cache leaves, closed to its own user, is removed with the rest.
    command: sh(
      "echo one >/data/file; echo two >/part/file; stat -c '%n %a' /data /part; " +
        "mkdir -p /data/closed/deep; touch /data/closed/deep/x; chmod 000 /data/closed/deep /data/closed",
    ),
    mounts: [mount(scratch, "/data"), mount(part, "/part")],
  });
  assertEquals((await harness.exited(first)).status.exitCode, 0);
  assertEquals((await harness.logs(first)).stdout, ["/data 777", "/part 777"]);
  // What the first container left is there, and both of these see each other, on two nodes of the cluster.
  const wait = (name: string) => `until [ -e /elsewhere/${name} ]; do sleep 0.1; done`;
  const mounts = [mount(scratch, "/elsewhere"), mount(part, "/elsewhere/inside", true)];
  const [one = "", two = ""] = await Promise.all([["one", "two"], ["two", "one"]].map(
    ([own, other = ""], index) =>
      run(own ?? "", {
        command: sh(
          `cd /elsewhere; cat file "a/it's b/file" inside/file; touch ${own}; ${wait(other)}
          touch inside/x || echo $?`,
        ),
        mounts,
        cluster: { JOB_CUSTOM_CONFIG: `--nodelist=n${index + 1}` },
      }),
  ));
  for (const container of [one, two]) {
    assertEquals((await harness.exited(container)).status.exitCode, 0);
    assertEquals((await harness.logs(container)).stdout, ["one", "two", "two", "1"]);
  }
  await harness.server.crictlOk(["rm", first, one, two]);
  // It is the pod's, not the containers'.
  const left = await harness.onCluster(`ls multi-cri/${sandbox}/volumes/scratch`);
  assertEquals(left.split("\n"), ["a", "closed", "file", "inside", "one", "two"]);
  await pod.run("umount volume-subpaths/scratch/main/0");
  await harness.removeCleanly({ pod: sandbox, container: first });
  await pod.remove();
});

Deno.test("a part of an emptyDir is refused when a program has put a link in its place", async () => {
  const pod = new PodDirectory(harness.lab);
  const scratch = await pod.empty("scratch");
  await pod.run(
    `mkdir -p volumes/kubernetes.io~empty-dir/scratch/part volume-subpaths/scratch/main/0
    mount --bind volumes/kubernetes.io~empty-dir/scratch/part volume-subpaths/scratch/main/0`,
  );
  const { id: sandbox, run } = await runPod(harness, { uid: pod.uid });
  const whole = [mount(scratch, "/data")];
  const parts = [mount(`${pod.path}/volume-subpaths/scratch/main/0`, "/part")];
  const command = sh("sleep 600");
  const guest = await run("guest", {
    command: sh("until [ -e /data/go ]; do sleep 0.1; done; ls /part"),
    mounts: [...whole, ...parts],
    // It has to wait in the queue, with its directory made.
    cluster: { JOB_CUSTOM_CONFIG: "--begin=now+60" },
  });
  const thief = await run("thief", {
    command: sh("rmdir /data/part; ln -s ../../../../.ssh /data/part; touch /data/go"),
    mounts: whole,
  });
  assertEquals((await harness.exited(thief)).status.exitCode, 0);
  const { info } = await harness.inspect(guest);
  await harness.onCluster(`scontrol update job ${info.slurm.jobId} StartTime=now`);
  const { status } = await harness.exited(guest);
  assertEquals([status.exitCode, status.reason], [125, "StartError"]);
  assertStringIncludes(status.message, "is no part of the volume, but a link");
  // A container that comes later is not even submitted.
  const later = await run("later", { command, mounts: parts }).catch(
    (error: Error) => error.message,
  );
  assertStringIncludes(later, "is a link");
  await pod.run("umount volume-subpaths/scratch/main/0");
  await harness.removeCleanly({ pod: sandbox, container: guest });
  await pod.remove();
});

Deno.test("a part of the volume at /multicri is mounted there, and results stay in it", async () => {
  const pod = new PodDirectory(harness.lab);
  await pod.run(
    `mkdir -p "volumes/kubernetes.io~nfs/parted/runs/it's one" volume-subpaths/parted/main/0
    mount --bind "volumes/kubernetes.io~nfs/parted/runs/it's one" volume-subpaths/parted/main/0`,
  );
  await harness.onCluster(`mkdir -p "multi-cri/parted/runs/it's one"; cd multi-cri/parted
    echo outside >file; echo inside >"runs/it's one/file"`);
  const made = await harness.run({
    uid: pod.uid,
    command: sh('cat /multicri/file; echo 42 >"$MULTICRI_RESULTS_DIR/answer"'),
    mounts: [mount(`${pod.path}/volume-subpaths/parted/main/0`, "/multicri")],
  });
  const { status } = await harness.exited(made.container);
  const { stdout, own } = await harness.logs(made.container);
  assertEquals([status.exitCode, stdout], [0, ["inside"]], own.join("\n"));
  const results = `multi-cri/parted/runs/it's one/${made.pod}/${made.container}`;
  assertStringIncludes(own.join("\n"), `/${results}`);
  assertEquals(await harness.onCluster(`cat "${results}/answer"; rm -r multi-cri/parted`), "42");
  await pod.run("umount volume-subpaths/parted/main/0");
  await harness.removeCleanly(made);
  await pod.remove();
});
