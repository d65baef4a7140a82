/** Pods for a real kubelet, and how the tests wait for them and read them. */
import { assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import type { Kubelet, PodStatus } from "../../scripts/lab/kubelet.ts";
import type { Lab } from "../../scripts/lab/lab.ts";
import { prepareNode } from "../../scripts/lab/node_server.ts";

/** The lab's busybox, by a name that makes its container a Slurm job. */
export const IMAGE = "multicri/docker-repository.lab/busybox:1";

/** Part of the pods' names, because Slurm remembers jobs of an earlier run for minutes. */
export const RUN = Date.now().toString(36);

const TIMEOUT_MS = 180_000;
const POLL_MS = 250;

/** A container that runs a shell script. */
export interface ScriptContainer {
  name: string;
  script: string;
  image?: string;
  env?: Record<string, string>;
  /** More fields of the Container. */
  more?: Record<string, unknown>;
}

/** A Container of the Kubernetes API, with the lab's login in its environment. */
export function container(
  lab: Lab,
  { name, script, image = IMAGE, env = {}, more = {} }: ScriptContainer,
): Record<string, unknown> {
  const { host, port, user, password } = lab.login;
  const variables = {
    CLUSTER_HOST: host,
    CLUSTER_PORT: String(port),
    CLUSTER_USERNAME: user,
    // Kubernetes expands $(NAME) only; the lone dollar sign in it stays.
    CLUSTER_PASSWORD: password,
    ...env,
  };
  return {
    name,
    image,
    command: ["/bin/sh", "-c", script],
    env: Object.entries(variables).map(([name, value]) => ({ name, value })),
    ...more,
  };
}

/** A PodSpec of the Kubernetes API; `more` are further fields of it. */
export function podSpec(
  lab: Lab,
  containers: ScriptContainer[],
  more: Record<string, unknown> = {},
): Record<string, unknown> {
  return {
    restartPolicy: "Never",
    terminationGracePeriodSeconds: 5,
    containers: containers.map((one) => container(lab, one)),
    ...more,
  };
}

/** A Pod of the Kubernetes API. */
export function pod(name: string, spec: Record<string, unknown>): Record<string, unknown> {
  return { apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "default" }, spec };
}

/** Waits until a pod is there and as wanted. @throws {Error} after three minutes, with how it is. */
export async function untilPod(
  kubelet: Kubelet,
  name: string,
  what: string,
  holds: (pod: PodStatus) => boolean,
): Promise<PodStatus> {
  return await until(async () => {
    const found = await kubelet.pod(name);
    if (found !== undefined && holds(found)) return found;
    throw new Error(`The pod ${name} is not ${what}: ${JSON.stringify(found?.status, null, 1)}`);
  });
}

/** Waits until all containers of a pod have ended for good. @throws {Error} as `untilPod`. */
export async function untilEnded(kubelet: Kubelet, name: string): Promise<PodStatus> {
  return await untilPod(
    kubelet,
    name,
    "ended",
    ({ status }) => status.phase === "Failed" || status.phase === "Succeeded",
  );
}

/** Takes a static pod away and waits until the kubelet has forgotten it. @throws {Error} as `untilPod`. */
export async function removeStaticPod(kubelet: Kubelet, name: string): Promise<void> {
  await kubelet.removeStaticPod(name);
  await untilGone(kubelet, name);
}

/** Waits until the kubelet has forgotten a pod. @throws {Error} as `untilPod`. */
export async function untilGone(kubelet: Kubelet, name: string): Promise<void> {
  await until(async () => {
    const found = await kubelet.pod(name);
    assertEquals(found?.status, undefined, `The pod ${name} is not gone`);
  });
}

/** Waits until Slurm has no job any more: the kubelet forgets a pod before its grace is over. */
export async function untilNoJobs(lab: Lab): Promise<void> {
  await until(async () => assertEquals(await onCluster(lab, "squeue --noheader"), ""));
}

/** Looks until `look` throws nothing, and returns what it returned. @throws what it threw after three minutes. */
export async function until<T>(look: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + TIMEOUT_MS;
  for (;;) {
    try {
      return await look();
    } catch (error) {
      // It may be no more than a kubelet that is being restarted and does not answer.
      if (performance.now() > deadline) throw error;
    }
    await delay(POLL_MS);
  }
}

/** Brings the lab up, and removes the results that containers of other tests left on the cluster. */
export async function prepareLab(lab: Lab): Promise<void> {
  await prepareNode(lab, () => {});
  await onCluster(lab, "rm -rf multi-cri/*");
}

/** Checks that no job and no container's directory is left on the cluster. */
export async function nothingLeft(lab: Lab): Promise<void> {
  await untilNoJobs(lab);
  assertEquals(await onCluster(lab, "ls multi-cri"), "", "something was left on the cluster");
}

/** Runs a script as the cluster's user on the login host. */
export async function onCluster(lab: Lab, script: string): Promise<string> {
  const { code, stdout, stderr } = await lab.exec("ctl", ["bash", "-lc", script], {
    user: lab.login.user,
  });
  assertEquals(code, 0, stderr);
  return stdout.trim();
}

/** Ids of all jobs of a pod that Slurm knows, also those that ended. */
export async function jobsOf(lab: Lab, { metadata }: PodStatus): Promise<string[]> {
  const lines = await onCluster(lab, "squeue --noheader --states=all --format='%A %k'");
  return lines.split("\n").filter((line) => line.includes(` uid=${metadata.uid} `))
    .map((line) => line.split(" ")[0] ?? "");
}

/** What the program of one attempt of a container wrote, line by line, without multicri's own lines. */
export async function outputOf(
  lab: Lab,
  { metadata }: PodStatus,
  container = "main",
  attempt = 0,
): Promise<{ stdout: string[]; stderr: string[] }> {
  const folder = `/var/log/pods/${metadata.namespace}_${metadata.name}_${metadata.uid}`;
  const text = await Deno.readTextFile(lab.path("knode", `${folder}/${container}/${attempt}.log`));
  const lines = text.trim().split("\n").map((line) => /^\S+ (stdout|stderr) F (.*)$/.exec(line));
  const of = (stream: string) =>
    lines.filter((line) => line?.[1] === stream).map((line) => line?.[2] ?? "");
  return {
    stdout: of("stdout"),
    stderr: of("stderr").filter((line) => !line.startsWith("multicri: ")),
  };
}
