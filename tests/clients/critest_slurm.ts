/**
 * The specs of critest that do not hold for Slurm jobs, and why. Every other one passes; one that begins to
 * pass is taken from here.
 */

import { type Exceptions, SKIPPED_EVERYWHERE } from "./critest_outcome.ts";

const RIGHTS =
  "The job of an ordinary user of the cluster cannot have that; it is refused by name.";
const NO_RIGHTS = /a job has no more rights than the cluster's user/;
const USER = "The job runs as the cluster's user with its groups, which is said in the log.";
const NETWORK =
  "The job has its compute node's network, where no server of an ordinary user may take " +
  "port 80, and none is reached at the Kubernetes node's address.";
const SECCOMP =
  "A job has its compute node's seccomp filter and no other: a profile of the node is refused, and the default one " +
  "of Apptainer, which knows no clone3(2), forbids threads to current programs and to Apptainer itself.";
const NODE_PATHS =
  "The directory lies on the Kubernetes node and is no volume of the kubelet's; the job runs on another machine.";
const UNCLAIMED = "critest skips what the runtime does not claim in its Status.";

const SECURITY = "Security Context bucket runtime should support ";
const NAMESPACES = "Security Context NamespaceOption runtime should support ";
const SECCOMP_PROFILES = "Security Context SeccompProfilePath ";
const USER_NAMESPACES = "Security Context UserNamespaces when Host idmap mount support is ";
const VOLUME =
  "Container runtime should support adding volume and device runtime should support starting container with volume";
const READ_ONLY_MOUNTS = "Container Mount Readonly runtime should support readonly mounts should ";
const PROPAGATION =
  "Container Mount Propagation runtime should support mount propagation mount with ";
const STREAMING = "Streaming runtime should support streaming interfaces runtime should support ";
const NETWORKING = "Networking runtime should support networking runtime should support ";
const MULTIPLE =
  "Multiple Containers [Conformance] when running multiple containers in a pod should support ";

/** Everything that does not pass. */
export const EXCEPTIONS: readonly Exceptions[] = [
  {
    reason: RIGHTS,
    message: NO_RIGHTS,
    under: SECURITY,
    specs: ["Privileged is true", "adding capability", "adding ALL capabilities"],
  },
  {
    reason: RIGHTS,
    message: NO_RIGHTS,
    under: "PodSandbox runtime should support sysctls should support ",
    specs: ["safe sysctls", "unsafe sysctls"],
  },
  { reason: RIGHTS, message: NO_RIGHTS, under: NAMESPACES, specs: ["HostPID", "HostIpc is true"] },
  {
    reason: `${RIGHTS} (The containers of these specs are privileged.)`,
    message: NO_RIGHTS,
    under: PROPAGATION,
    specs: [
      "'rprivate' should not support propagation",
      "'rshared' should support propagation from host to container and vice versa",
      "'rslave' should support propagation from host to container",
    ],
  },
  {
    reason: `${RIGHTS} (These specs add SYS_ADMIN or are privileged.)`,
    message: NO_RIGHTS,
    under: `${SECCOMP_PROFILES}runtime should `,
    specs: [
      "not block setting host name with unconfined seccomp and SYS_ADMIN",
      "support an seccomp profile that blocks setting hostname with SYS_ADMIN",
      "ignore a seccomp profile that blocks setting hostname when privileged",
    ],
  },
  {
    reason: "A program that is setuid gives an unprivileged job no rights.",
    message: /expected log "Effective uid: 0/,
    under: "Security Context NoNewPrivs ",
    specs: ["should allow privilege escalation when false"],
  },
  {
    reason: USER,
    message: /to contain element matching|should be (1001|nobody)|expected log "1001:1002/,
    under: SECURITY,
    specs: ["SupplementalGroups", "RunAsUser", "RunAsUserName", "RunAsGroup"],
  },
  {
    reason:
      "The image is always read-only: Apptainer refuses to run with --writable-tmpfs where a " +
      "site has switched overlays off.",
    message: /expected log "Found.*touch: test.go: Read-only file system/s,
    under: "Security Context bucket runtime should support that ",
    specs: ["ReadOnlyRootfs is false"],
  },
  {
    reason:
      "Masked and read-only paths are left out: the kubelet sends them with every container, to " +
      "protect a host from a root user that a job never is.",
    message: /Expected an error to have occurred/,
    under: SECURITY,
    specs: ["MaskedPaths", "ReadonlyPaths"],
  },
  {
    reason: SECCOMP,
    message: /Seccomp:\t0|a seccomp profile of the node/,
    under: SECCOMP_PROFILES,
    specs: [
      "should support seccomp default on the container",
      "should support seccomp localhost profile on the container",
    ],
  },
  {
    reason:
      `${NETWORK} (The web server of these specs ends at once, and with it a command that has begun; containers ` +
      "never share processes.)",
    message: /Cannot run a command in the container|exited with 137/,
    mayPass: true,
    under: NAMESPACES,
    specs: ["PodPID", "ContainerPID"],
  },
  {
    reason: "The job has its compute node's network, not that of the Kubernetes node.",
    message: /host port \d+ should be in container's port list/,
    under: NAMESPACES,
    specs: ["HostNetwork is true"],
  },
  {
    reason: NETWORK,
    message: /connection refused/,
    under: STREAMING,
    specs: ["portforward in host network", "portforward [Conformance]"],
  },
  {
    reason: NETWORK,
    message: /connection refused/,
    under: NETWORKING,
    specs: [
      "port mapping with only container port [Conformance]",
      "port mapping with host port and container port [Conformance]",
    ],
  },
  {
    reason: NETWORK,
    message: /connection refused/,
    under: MULTIPLE,
    specs: ["network"],
  },
  {
    reason: `${NETWORK} (The web server of this spec ends at once: seldom is a command faster.)`,
    message: /Cannot run a command in the container|exited with 137/,
    mayPass: true,
    under: MULTIPLE,
    specs: ["container exec"],
  },
  {
    reason:
      "The job asks its compute node's name servers, since the Kubernetes cluster's may be out " +
      "of its reach.",
    message: /should contain "nameserver 10.10.10.10"/,
    under: NETWORKING,
    specs: ["DNS config [Conformance]"],
  },
  {
    reason:
      "The lab's Slurm limits no job's memory, for want of cgroups; OOMKilled is tested otherwise.",
    message: /to equal\n\s*<v1.ContainerState>: 2/,
    under: "Container OOM runtime should output OOMKilled reason ",
    specs: ["should terminate with exitCode 137 and reason OOMKilled"],
  },
  {
    reason: NODE_PATHS,
    message: /is a path of the Kubernetes node/,
    under: VOLUME,
    specs: [" [Conformance]", " when host path is a symlink [Conformance]"],
  },
  {
    reason: NODE_PATHS,
    message: /is a path of the Kubernetes node/,
    under: READ_ONLY_MOUNTS,
    specs: ["support non-recursive readonly mounts"],
  },
  {
    reason: "Only the original image has the digest that critest knows.",
    message: /the registry has no such image/,
    under: "Image Manager ",
    specs: ["public image with digest should be pulled and removed [Conformance] [Serial]"],
  },
  {
    reason: UNCLAIMED,
    under: READ_ONLY_MOUNTS,
    specs: [
      "support recursive readonly mounts",
      "reject a recursive readonly mount with PROPAGATION_HOST_TO_CONTAINER",
      "reject a recursive readonly mount with PROPAGATION_BIDIRECTIONAL",
      "reject a recursive readonly mount with ReadOnly: false",
    ],
  },
  {
    reason: UNCLAIMED,
    under: USER_NAMESPACES,
    specs: [
      "needed runtime should support NamespaceMode_POD",
      "not needed runtime should support NamespaceMode_NODE",
      "not needed runtime should fail if more than one mapping provided",
      "not needed runtime should fail if container ID 0 is not mapped",
      "not needed runtime should fail with NamespaceMode_CONTAINER",
      "not needed runtime should fail with NamespaceMode_TARGET",
    ],
  },
  {
    reason: UNCLAIMED,
    under: "Security Context SupplementalGroupsPolicy when SupplementalGroupsPolicy=",
    specs: [
      "Merge (Default) if the container's primary UID belongs to some groups in the image, runtime should add SupplementalGroups to them",
      "Strict even if the container's primary UID belongs to some groups in the image, runtime should not add SupplementalGroups to them",
    ],
  },
  ...SKIPPED_EVERYWHERE,
];

/** Those that wait a minute before they fail. */
export const SLOW_SPECS: readonly string[] = [
  "support portforward in host network",
  "support portforward [Conformance]",
  "support port mapping with only container port",
  "support port mapping with host port and container port",
  "containers in a pod should support network",
  "support HostNetwork is true",
  "should terminate with exitCode 137 and reason OOMKilled",
];
