/** What cannot be run on the node itself: the sentences, the codes, and that nothing is left. */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import {
  type ContainerConfig,
  ContainerState,
  type DeepPartial,
  NamespaceMode,
  type PodSandboxConfig,
  SecurityProfile_ProfileType,
} from "../../lib/cri/api.generated.ts";
import { SpdyClient } from "../../lib/streaming/test_spdy_client.ts";
import { prepareNode } from "../../scripts/lab/node_server.ts";
import { lab, onNode } from "../on_node.ts";

Deno.test.beforeAll(() => prepareNode(lab, () => {}));

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
  "an unknown capability": {
    container: { linux: { securityContext: { capabilities: { addCapabilities: ["FLY"] } } } },
    message: /the capability "FLY"/,
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
    message: /fs.mqueue.no_such/,
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
  "a name server on two lines": {
    sandbox: { dnsConfig: { servers: ["10.0.0.1\noptions debug"], searches: [], options: [] } },
    message: /the pod's DNS: .* must not hold blanks or line breaks/,
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
  "a cgroup that cannot be made": {
    sandbox: { linux: { cgroupParent: "/tasks/x" } },
    message: /Cannot start the container .*cgroup/,
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

Deno.test("a container whose command is not there has the code of a failed start", () =>
  onNode(async ({ client }) => {
    const pod = await client.runPod();
    const id = await client.create(pod, "", { command: ["/no/such"] });
    await assertRejects(() => client.call("startContainer", { containerId: id }));
    const { state, exitCode, reason, message } = await client.status(id);
    assertEquals([state, exitCode, reason], [ContainerState.CONTAINER_EXITED, 128, "StartError"]);
    assertMatch(message, /\/no\/such/);
  }));

Deno.test("a container that can be started no more has the code of a failed start", () =>
  onNode(async ({ client }) => {
    const { pod, id: targetId } = await client.runContainer("sleep 60");
    const namespaceOptions = { pid: NamespaceMode.TARGET, targetId };
    const late = await client.create(pod, "true", {
      metadata: { name: "late", attempt: 0 },
      linux: { securityContext: { namespaceOptions } },
    });
    await client.call("stopContainer", { containerId: targetId, timeout: 0n });
    const unlogged = await client.runPod();
    const mute = await client.create(unlogged, "true");
    const { logDirectory } = unlogged.config;
    await lab.exec("knode", ["sh", "-euc", 'rm -rf "$1"; : >"$1"', "sh", logDirectory]);
    const cases: [id: string, words: RegExp][] = [
      [late, /must be a running one of the same pod/],
      [mute, new RegExp(logDirectory)],
    ];
    for (const [containerId, words] of cases) {
      const error = await assertRejects(
        () => client.call("startContainer", { containerId }),
        Error,
      );
      assertMatch(error.message, words);
      const { state, exitCode, reason, message } = await client.status(containerId);
      assertEquals([state, exitCode, reason], [ContainerState.CONTAINER_EXITED, 128, "StartError"]);
      assertMatch(message, words);
    }
  }));

/** Configurations of a network whose only plugin is a script of this text, or none; and what is said of them. */
const BAD_NETWORKS: Record<string, { plugin?: string; name?: string; message: RegExp }> = {
  "a network without a configuration": { message: /\/run\/on-node-net\/conf/ },
  "a network whose plugin is not there": { name: "toy", message: /toy/ },
  "a network whose plugin fails": {
    name: "toy",
    plugin: `case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}' ;;
ADD) echo '{"cniVersion":"1.0.0","code":11,"msg":"no more toys"}'; exit 1 ;;
esac`,
    message: /no more toys/,
  },
  "a network whose plugin says nonsense": {
    name: "toy",
    plugin: `case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}' ;;
ADD) echo toys ;;
esac`,
    message: /toy/,
  },
};

Deno.test("a pod with a bad network is refused with a sentence, and leaves no namespace", (t) => {
  const folder = "/run/on-node-net";
  const inNode = async (script: string, ...args: string[]) => {
    const { code, stdout, stderr } = await lab.exec("knode", ["sh", "-euc", script, "sh", ...args]);
    assertEquals(code, 0, stderr);
    return stdout;
  };
  const namespaces = () => inNode("ls /run/netns 2>/dev/null || true");
  return onNode(async ({ client }) => {
    const before = await namespaces();
    for (const [what, { plugin, name, message }] of Object.entries(BAD_NETWORKS)) {
      await t.step(what, async () => {
        await inNode('rm -rf "$1"; mkdir -p "$1/conf" "$1/bin"', folder);
        if (name === undefined) await inNode('rmdir "$1"', `${folder}/conf`);
        else {
          const plugins = [{ type: name }];
          const list = JSON.stringify({ cniVersion: "1.0.0", name: "toys", plugins });
          await inNode('printf %s "$2" >"$1"', `${folder}/conf/1.conflist`, list);
        }
        if (name !== undefined && plugin !== undefined) {
          const write = 'printf "#!/bin/sh\\n%s\\n" "$2" >"$1"; chmod +x "$1"';
          await inNode(write, `${folder}/bin/${name}`, plugin);
        }
        const error = await assertRejects(() => client.runPod(), Error);
        assertMatch(error.message, message);
        assertEquals(await namespaces(), before);
        assertEquals(await client.pods({}), []);
      });
    }
    await inNode('rm -rf "$1"', folder);
  }, {
    flags: [
      "--enable-pod-network",
      `--network-conf-dir=${folder}/conf`,
      `--network-bin-dir=${folder}/bin`,
    ],
  });
});

Deno.test("a connection to a port that nobody listens at is refused with a sentence", () =>
  onNode(async ({ client }) => {
    const { pod } = await client.runContainer("sleep 60");
    const { url } = await client.call("portForward", { podSandboxId: pod.id, port: [9] });
    await using forward = await SpdyClient.connect(url, ["portforward.k8s.io"]);
    const headers = { port: "9", requestID: "1" };
    const error = await forward.open({ ...headers, streamType: "error" });
    const data = await forward.open({ ...headers, streamType: "data" });
    assertMatch(await error.text(), /Cannot connect to the port 9 of the pod: .*[Rr]efused/);
    assertEquals(await data.ended, "reset");
  }, { flags: ["--stream-addr", lab.address("knode")] }));
