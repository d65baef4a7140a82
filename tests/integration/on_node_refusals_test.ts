/** What cannot be run on the node itself: the sentences, the codes, and that nothing is left. */
import { assertMatch, assertRejects } from "@std/assert";
import {
  type ContainerConfig,
  type DeepPartial,
  NamespaceMode,
  type PodSandboxConfig,
  SecurityProfile_ProfileType,
} from "../../lib/cri/api.generated.ts";
import { prepareNode } from "../../scripts/lab/node_server.ts";
import { lab, onNode } from "../on_node.ts";

Deno.test.beforeAll(() => prepareNode(lab, () => {}));

/** All users of the node. */
const ALL_IDS = [{ containerId: 0, hostId: 0, length: 2 ** 32 - 1 }];

type Request = {
  sandbox?: DeepPartial<PodSandboxConfig>;
  container?: DeepPartial<ContainerConfig>;
  message: RegExp;
};

const seccomp = (localhostRef: string) => ({
  linux: {
    securityContext: {
      seccomp: { profileType: SecurityProfile_ProfileType.Localhost, localhostRef },
    },
  },
});

const usersFrom = (hostId: number) => {
  const ids = [{ hostId, containerId: 0, length: 65_536 }];
  const usernsOptions = { mode: NamespaceMode.POD, uids: ids, gids: ids };
  return { linux: { securityContext: { namespaceOptions: { usernsOptions } } } };
};

const BAD_REQUESTS: Record<string, Request> = {
  "a seccomp profile that is not there": {
    container: seccomp("/no/such.json"),
    message: /the seccomp profile \/no\/such.json: it must be a file of this node/,
  },
  "a seccomp profile that is none": {
    container: seccomp("/etc/hosts"),
    message: /must be a JSON object/,
  },
  "a mount of what is not there": {
    container: { mounts: [{ hostPath: "/no/such", containerPath: "/x" }] },
    message: /mount "\/no\/such" at "\/x" .*: this node has no such path/,
  },
  "a privileged container in a pod that is not": {
    container: { linux: { securityContext: { privileged: true } } },
    message: /a privileged container in a pod that is not/,
  },
  "an AppArmor profile on a node without AppArmor": {
    container: {
      linux: {
        securityContext: {
          apparmor: { profileType: SecurityProfile_ProfileType.Localhost, localhostRef: "mine" },
        },
      },
    },
    message: /the AppArmor profile "mine": this node's kernel has no AppArmor/,
  },
  "a user that the image does not know": {
    container: { linux: { securityContext: { runAsUsername: "nobody-here" } } },
    message: /as the user "nobody-here": the image's \/etc\/passwd must have it/,
  },
  "a device that is not there": {
    container: { devices: [{ hostPath: "/dev/no", containerPath: "/dev/no", permissions: "rw" }] },
    message: /the device "\/dev\/no"/,
  },
  "a kernel setting of the whole node": {
    sandbox: { linux: { sysctls: { "kernel.panic": "1" } } },
    message: /the kernel's "kernel.panic"/,
  },
  "a kernel setting that the kernel does not know": {
    sandbox: { linux: { sysctls: { "fs.mqueue.no_such": "1" } } },
    message: /the kernel's "fs.mqueue.no_such" for the pod: this node's kernel has no such setting/,
  },
  "a value that the kernel does not take": {
    sandbox: { linux: { sysctls: { "kernel.shmmax": "abc" } } },
    message:
      /the kernel's "kernel.shmmax" for the pod to "abc": the kernel does not take that value/,
  },
  "users beyond what the kernel has": {
    sandbox: usersFrom(2 ** 32 - 1),
    message: /a user namespace: the mapping of its uids must end with the node's id 4294967294/,
  },
  "a kernel setting of the node's network": {
    sandbox: { linux: { sysctls: { "net.ipv4.ip_forward": "1" } } },
    message: /the kernel's "net.ipv4.ip_forward" for the pod: the pod shares the node's network/,
  },
  "a group of its own without a user": {
    sandbox: { linux: { securityContext: { runAsGroup: { value: 5n } } } },
    message: /the pod with run_as_group alone/,
  },
  "a host name that is none": {
    sandbox: { hostname: "h".repeat(65) },
    message: /the host name "h+": it must be of letters/,
  },
  "another port of the node for one of its own": {
    sandbox: { portMappings: [{ hostPort: 8080, containerPort: 80 }] },
    message: /the host port 8080 for its port 80: without --enable-pod-network/,
  },
  "a user by number and by name": {
    container: {
      linux: { securityContext: { runAsUser: { value: 5n }, runAsUsername: "root" } },
    },
    message: /both run_as_user and run_as_username/,
  },
  "a name server on two lines": {
    sandbox: { dnsConfig: { servers: ["10.0.0.1\noptions debug"], searches: [], options: [] } },
    message: /the pod's DNS: .* must not hold blanks, line breaks or other/,
  },
  "a group without a user": {
    container: { linux: { securityContext: { runAsGroup: { value: 5n } } } },
    message: /run_as_group alone/,
  },
  "permissions of a device that are none": {
    container: {
      devices: [{ hostPath: "/dev/null", containerPath: "/dev/null", permissions: "all" }],
    },
    message: /the permissions "all": they must be of r, w and m/,
  },
  "a mount over /proc": {
    container: { mounts: [{ hostPath: "/etc", containerPath: "/proc" }] },
    message: /mount "\/etc" at "\/proc": nothing can be mounted/,
  },
  "a mount over its root": {
    container: { mounts: [{ hostPath: "/etc", containerPath: "/" }] },
    message: /mount "\/etc" at "\/": it must be a path below \//,
  },
  "an option of mounts that is none": {
    container: { mounts: [{ hostPath: "/etc", containerPath: "/x", mountOptions: ["fast"] }] },
    message: /"fast" is no option of a bind mount/,
  },
  "a size of huge pages that is none": {
    container: {
      linux: { resources: { hugepageLimits: [{ pageSize: "2 MiB", limit: 1n }] } },
    },
    message: /huge pages of the size "2 MiB"/,
  },
  "processors that the node does not have": {
    container: { linux: { resources: { cpusetCpus: "4000" } } },
    message: /Cannot start the container .*cpuset.cpus/,
  },
  "a cgroup that leads elsewhere": {
    sandbox: { linux: { cgroupParent: "/pods/../../x" } },
    message: /in the cgroup "\/pods\/..\/..\/x": cgroup_parent must be/,
  },
  "a null byte in its command": {
    container: { command: ["echo", "a\0b"] },
    message: /its argument "a" must not hold a null byte/,
  },
  "a command that is a directory": {
    container: { command: ["/etc"] },
    message: /Cannot start the container .*\/etc.* is not a regular file/,
  },
  "a command that is not there": {
    container: { command: ["/no/such"] },
    message: /Cannot start the container .*\/no\/such/,
  },
  "a cgroup in the place of a file of the kernel's": {
    sandbox: { linux: { cgroupParent: "/cgroup.procs/x" } },
    message: /in the cgroup "\/cgroup.procs\/x": cgroup_parent must be/,
  },
  "a cgroup that lies too deep": {
    sandbox: { linux: { cgroupParent: "/x".repeat(2_000) } },
    message: /"…: cgroup_parent must have 1024 bytes and 32 names at most, and has 4000 and 2000/,
  },
  "an empty command": {
    container: { command: [""] },
    message: /the first word of its command names the program, and must not be empty/,
  },
  "an argument that no program can be given": {
    container: { args: ["x".repeat(1 << 20)] },
    message: /its argument "x+"… must have fewer than 131072 bytes, and has 1048576/,
  },
  "a variable without a name": {
    container: { envs: [{ key: "", value: new Uint8Array() }] },
    message: /a variable that has no name/,
  },
  "a working directory that is a file": {
    container: { workingDir: "/etc/passwd" },
    message: /Cannot start the container .*\/etc\/passwd.*: Not a directory/,
  },
  "a relative path of the node": {
    container: { mounts: [{ hostPath: "../../..", containerPath: "/x" }] },
    message: /the mount of "..\/..\/..": it must be absolute/,
  },
  "a path of the node with a null byte": {
    container: { mounts: [{ hostPath: "/a\0b", containerPath: "/x" }] },
    message: /the mount of "\/a\\u0000b": it must not hold NUL characters/,
  },
  "a device without a place": {
    container: { devices: [{ hostPath: "/dev/null", containerPath: "", permissions: "rw" }] },
    message: /the place of a device "": it must be absolute/,
  },
  "a file in the place of a device": {
    container: { devices: [{ hostPath: "/etc/hosts", containerPath: "/x", permissions: "rw" }] },
    message:
      /the device "\/etc\/hosts": it must be a device of the node, or a directory of devices/,
  },
  "a mode of namespaces that is none": {
    sandbox: { linux: { securityContext: { namespaceOptions: { pid: 7 as NamespaceMode } } } },
    message: /the mode 7 of the pid namespace/,
  },
  "a seccomp profile of a type that is none": {
    container: {
      linux: { securityContext: { seccomp: { profileType: 5 as SecurityProfile_ProfileType } } },
    },
    message: /a seccomp profile of the type 5/,
  },
  "users of its own that are the node's": {
    sandbox: {
      linux: {
        securityContext: {
          namespaceOptions: {
            pid: NamespaceMode.CONTAINER,
            usernsOptions: { mode: NamespaceMode.POD, uids: ALL_IDS, gids: ALL_IDS },
          },
        },
      },
    },
    message: /the mapping of its uids must not begin with the node's root/,
  },
  "a name server with a null byte": {
    sandbox: { dnsConfig: { servers: ["10.0.0.1\0"], searches: [], options: [] } },
    message: /must not hold blanks, line breaks or other control characters/,
  },
  "less time than there is": {
    container: { linux: { resources: { cpuQuota: 1n } } },
    message: /the quota 1 of processor time: it must be 1000 microseconds at least/,
  },
  "less swap than memory": {
    container: {
      linux: {
        resources: { memoryLimitInBytes: 64n << 20n, memorySwapLimitInBytes: 32n << 20n },
      },
    },
    message: /the limit 33554432 for memory and swap together/,
  },
  "a file of another cgroup": {
    container: { linux: { resources: { unified: { "../memory.max": "1" } } } },
    message: /the setting "..\/memory.max" of its cgroup: it must be the name of a file/,
  },
};

Deno.test("what cannot be run is refused with a sentence, and leaves nothing", (t) =>
  onNode(async ({ client }) => {
    for (const [what, { sandbox, container, message }] of Object.entries(BAD_REQUESTS)) {
      await t.step(what, async () => {
        const error = await assertRejects(async () => {
          const pod = await client.runPod(client.podConfig(sandbox));
          const id = await client.create(pod, "true", container);
          await client.call("startContainer", { containerId: id });
        }, Error);
        assertMatch(error.message, message);
      });
    }
  }));
