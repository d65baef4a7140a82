import { join } from "@std/path";
import { LIBCNI_RESULTS_DIRECTORY } from "../config/network_place.ts";
import { IF_NAME } from "./attachments.ts";
import type { AttachmentName } from "./chain.ts";
import { isObject } from "./json.ts";
import type { Namespaces } from "./namespaces.ts";

/**
 * What others of this node have attached: other servers of ours, by their namespaces, and runtimes with libcni. Plugins
 * that collect garbage would free it if it were not named.
 * @throws Error when it cannot be read: then nothing may be called garbage.
 */
export async function foreignAttachments(
  namespaces: Pick<Namespaces, "sandboxes">,
): Promise<AttachmentName[]> {
  const names = (await namespaces.sandboxes()).map((id) => ({ containerID: id, ifname: IF_NAME }));
  try {
    for await (const { name, isFile } of Deno.readDir(LIBCNI_RESULTS_DIRECTORY)) {
      if (!isFile) continue;
      const kept = JSON.parse(await Deno.readTextFile(join(LIBCNI_RESULTS_DIRECTORY, name)));
      const { containerId, ifName } = isObject(kept) ? kept : {};
      if (typeof containerId === "string" && typeof ifName === "string") {
        names.push({ containerID: containerId, ifname: ifName });
      }
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return names;
}
