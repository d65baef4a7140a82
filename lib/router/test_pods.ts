import { assertRejects } from "@std/assert";
import { CriError } from "../base/error.ts";
import type { TestNode } from "./test_runtime.ts";

/** Ids of the remotes "default", "extra" and "crio" begin with d, e and c; ours with 0. */
export const REMOTES = ["default", "extra"];

interface RunPodRequest {
  config: { metadata: { name: string; namespace: string; uid: string; attempt: number } };
  runtimeHandler: string;
}

/** A request to run a pod. */
export function pod(name: string, runtimeHandler = ""): RunPodRequest {
  const metadata = { name, namespace: "ns", uid: `uid-${name}`, attempt: 0 };
  return { config: { metadata }, runtimeHandler };
}

/** Runs a pod and gives its sandbox's id. */
export async function runPod({ call }: TestNode, name: string, handler = ""): Promise<string> {
  return (await call("runPodSandbox", pod(name, handler))).podSandboxId;
}

/** Creates a container whose label `app` is its image, and gives its id. */
export async function runContainer(
  node: TestNode,
  podSandboxId: string,
  image = "a",
): Promise<string> {
  const config = { metadata: { name: "main" }, image: { image }, labels: { app: image } };
  return (await node.call("createContainer", { podSandboxId, config })).containerId;
}

/** The error that a call ends with. */
export async function failure(work: Promise<unknown>): Promise<CriError> {
  return await assertRejects(() => work, CriError);
}
