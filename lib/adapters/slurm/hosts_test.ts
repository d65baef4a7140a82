import { assertEquals } from "@std/assert";
import { podHosts } from "./hosts.ts";

const COMMON = `# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::2\tip6-allrouters
`;
const FILES: readonly [what: string, file: string, lines: string][] = [
  [
    "there are no aliases",
    `${COMMON}10.1.2.3\tweb.sub.ns.svc\tweb\n`,
    "127.0.1.1\tweb.sub.ns.svc\tweb\n",
  ],
  [
    "the pod has two addresses and aliases",
    `${COMMON}10.1.2.3\tweb\nfd00::3\tweb\n\n# Entries added by HostAliases.\n10.9.9.9\tdb db.lab\n`,
    "127.0.1.1\tweb\n10.9.9.9\tdb db.lab\n",
  ],
  [
    "the pod has the node's network",
    "# Kubernetes-managed hosts file (host network).\n10.0.0.1\tnode\n\n# Entries added by HostAliases.\n10.9.9.9\tdb\n",
    "10.9.9.9\tdb\n",
  ],
  ["the file is empty", "", ""],
];
for (const [what, file, lines] of FILES) {
  Deno.test(`podHosts() gives ${JSON.stringify(lines)} when ${what}`, () => {
    assertEquals(podHosts(file), lines);
  });
}
