import { basename } from "@std/path";
import type { Logger } from "../../base/log.ts";
import { removeOutput } from "./container_files.ts";
import type { OciRuntime } from "./oci_runtime.ts";
import { WORKLOAD_ID } from "./places.ts";
import { type PreparePlace, removeBundle } from "./prepare.ts";

/** Ends and removes what crun or a folder of ours knows of containers that have no record. */
export async function removeUnknown(
  place: Pick<PreparePlace, "node" | "places" | "imageRoots" | "containers">,
  runtime: Pick<OciRuntime, "list" | "delete">,
  log: Logger,
): Promise<void> {
  const { places, containers } = place;
  const { bundles, layers, files } = places.folders;
  const left = new Set([...await runtime.list()]);
  for (const folder of [bundles, layers, files]) {
    for await (const { name } of Deno.readDir(folder)) {
      left.add(basename(name).split(".")[0] ?? "");
    }
  }
  for (const id of left) {
    // File systems have names of their own (.nfs…, .snapshot), and an empty id's path is that of all containers.
    if (!WORKLOAD_ID.test(id) || containers.get(id) !== undefined) continue;
    log.info("Removing what is left of a container without a record", { container: id });
    await runtime.delete(id);
    await removeBundle(place, id, []);
    await removeOutput(places.container(id));
  }
}
