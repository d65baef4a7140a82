import { join } from "@std/path";
import { CriError } from "../../base/error.ts";
import type { OciResources, OciSpec } from "./bundle/oci_spec.ts";
import type { ContainerPlace } from "./places.ts";

/**
 * What crun was told of a container.
 * @throws CriError FAILED_PRECONDITION when somebody removed the file.
 */
export async function readSpec(bundle: string): Promise<OciSpec> {
  const path = join(bundle, "config.json");
  const text = await Deno.readTextFile(path).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot read ${path}, without which nothing can be done with the container: somebody removed it; remove ` +
        "the container too.",
    );
  });
  return JSON.parse(text);
}

/** Gives a container that was not started other limits. @throws CriError as `readSpec`. */
export async function changeResources(bundle: string, resources: OciResources): Promise<void> {
  const spec = await readSpec(bundle);
  spec.linux.resources = { devices: spec.linux.resources.devices ?? [], ...resources };
  await Deno.writeTextFile(join(bundle, "config.json"), JSON.stringify(spec), { mode: 0o600 });
}

/** The process id of a container's program on the node, as crun wrote it; 0 when it is gone. */
export function pidIn(bundle: string): number {
  try {
    return Number(Deno.readTextFileSync(join(bundle, "pid")));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}

/** Removes the files that its supervisor wrote. */
export async function removeOutput({ files }: Pick<ContainerPlace, "files">): Promise<void> {
  for (const kind of ["stdout", "stderr", "turns", "exit", "exit.new"]) {
    await Deno.remove(`${files}.${kind}`).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
  }
}
