import type { ContainerConfig } from "../../cri/api.generated.ts";
import { withEdits } from "./bundle/cdi_edits.ts";
import { type CdiEdits, type CdiFile, editsOf } from "./bundle/cdi_spec.ts";
import type { OciSpec } from "./bundle/oci_spec.ts";
import type { Node } from "./node.ts";

/** Where descriptions of devices lie (CDI, SPEC.md); what the second says counts. */
const FOLDERS = ["/etc/cdi", "/var/run/cdi"];

/** Prints the path of each description and its text in base64, each on a line. */
const READ = `
for folder; do
  for file in "$folder"/*.json "$folder"/*.yaml; do
    if [ -f "$file" ]; then printf '%s\\n' "$file"; base64 -w0 -- "$file"; echo; fi
  done
done`;

/** Device plugins that know no CDI in the kubelet's API name devices so, parted by commas (CDI, SPEC.md). */
const ANNOTATION_PREFIX = "cdi.k8s.io/";

/**
 * What a container's CDI devices change in its configuration, from the files of the node as they are now.
 * @throws CriError FAILED_PRECONDITION for one that is not described. The change: when the node lacks its device node.
 */
export async function cdiDevices(
  node: Node,
  config: Pick<ContainerConfig, "CDIDevices" | "annotations">,
): Promise<(spec: OciSpec) => OciSpec> {
  const names = namesIn(config);
  if (names.length === 0) return (spec) => spec;
  const lines = (await node.script("read descriptions of devices", READ, FOLDERS)).split("\n");
  const files: CdiFile[] = [];
  for (let index = 0; index + 1 < lines.length; index += 2) {
    const text = new TextDecoder().decode(Uint8Array.fromBase64(lines[index + 1] ?? ""));
    files.push({ path: lines[index] ?? "", text });
  }
  const edits = editsOf(names, files);
  const found = await node.devices(hostPaths(edits));
  return (spec) => withEdits(spec, edits, found);
}

/** The devices that a container asks for in either way, each once. */
function namesIn(
  { CDIDevices, annotations }: Pick<ContainerConfig, "CDIDevices" | "annotations">,
): string[] {
  const inAnnotations = Object.entries(annotations)
    .flatMap(([key, value]) => key.startsWith(ANNOTATION_PREFIX) ? value.split(",") : []);
  return [...new Set([...CDIDevices.map(({ name }) => name), ...inAnnotations])];
}

function hostPaths(edits: readonly CdiEdits[]): string[] {
  return edits.flatMap(({ deviceNodes }) => deviceNodes.map(({ hostPath }) => hostPath));
}
