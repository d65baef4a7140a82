/** What the kubelet writes before the lines of the pod's hostAliases (pkg/kubelet/kubelet_pods.go). */
const ALIASES_MARK = "# Entries added by HostAliases.";
/** The beginning of its file for a pod with the node's network, which holds the node's own lines. */
const NODE_NETWORK_MARK = "# Kubernetes-managed hosts file (host network).";
/** Where a program finds its own host: the address that the kubelet knows is not that of the job's machine. */
const OWN_ADDRESS = "127.0.1.1";

/**
 * The lines of the kubelet's file /etc/hosts that hold on a compute node, for the end of the node's own file: the pod's
 * names, and its hostAliases.
 */
export function podHosts(kubeletFile: string): string {
  const [head = "", aliases = ""] = kubeletFile.split(`${ALIASES_MARK}\n`);
  const own = head.startsWith(NODE_NETWORK_MARK) ? [] : head.split("\n").flatMap((line) => {
    const [address = "", ...names] = line.split("#")[0]?.trim().split(/\s+/) ?? [];
    const isCommon = /^(127\.|::1$|fe00::)/.test(address);
    return names.length === 0 || isCommon ? [] : [`${OWN_ADDRESS}\t${names.join("\t")}`];
  });
  return [...new Set(own), aliases].map((text) => text.trim()).filter((text) => text !== "")
    .map((text) => `${text}\n`).join("");
}
