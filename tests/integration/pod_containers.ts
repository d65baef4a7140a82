/** Pods with several containers, driven by crictl. */
import type { Harness, JobSpec } from "./harness.ts";

/** A pod sandbox and what makes containers in it. */
export interface TestPod {
  id: string;
  /** Creates and starts another container. */
  run: (name: string, spec: JobSpec, attempt?: number) => Promise<string>;
}

/** Runs a sandbox; `spec` says what is the pod's. */
export async function runPod(harness: Harness, spec: JobSpec): Promise<TestPod> {
  const { server } = harness;
  const { sandboxFile } = await harness.write(spec);
  const id = await server.crictlOk(["runp", "--runtime", "multicri", sandboxFile]);
  const run = async (name: string, own: JobSpec, attempt = 0) => {
    const fields = { metadata: { name, attempt }, log_path: `${name}/${attempt}.log` };
    const containerFields = { ...fields, ...own.containerFields };
    const { containerFile } = await harness.write({ ...own, containerFields });
    const container = await server.crictlOk(["create", id, containerFile, sandboxFile]);
    await server.crictlOk(["start", container]);
    return container;
  };
  return { id, run };
}
