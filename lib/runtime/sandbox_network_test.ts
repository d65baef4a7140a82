import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { CriError } from "../base/error.ts";
import { createLogger } from "../base/log.ts";
import { NamespaceMode, PodSandboxConfig } from "../cri/api.generated.ts";
import type { PodNetwork, PodNetworks, WantedSandboxes } from "../network/pod_networks.ts";
import { sandboxRecord } from "../store/test_store.ts";
import { runtimeHandlers } from "./handlers.ts";
import { networkPath, recoverSandboxNetworks } from "./sandbox_network.ts";
import { removePodSandbox } from "./sandbox_remove.ts";
import { runPodSandbox } from "./sandbox_run.ts";
import { podSandboxStatus } from "./sandbox_status.ts";
import { stopPodSandbox } from "./sandbox_stop.ts";
import { runtimeStatus } from "./status.ts";
import { NEVER, sandboxRequest, type TestRuntime, withRuntime } from "./test_runtime.ts";

/** Networks that are only counted. */
class TestNetworks implements PodNetworks {
  readonly attached = new Map<string, PodNetwork>();
  readonly calls: string[] = [];
  ready = { ready: true, message: "" };
  failure: CriError | undefined;
  wanted: WantedSandboxes = () => undefined;

  async attach(id: string, { metadata }: PodSandboxConfig): Promise<PodNetwork> {
    this.calls.push(`attach ${metadata?.name}`);
    // Another call may come now.
    await new Promise((resolve) => setTimeout(resolve));
    if (this.failure !== undefined) throw this.failure;
    const network = { netnsPath: `/ns/${id}`, addresses: ["10.0.0.2", "fd00::2"], result: {} };
    this.attached.set(id, network);
    return network;
  }

  of(id: string): PodNetwork | undefined {
    return this.attached.get(id);
  }

  async detach(id: string): Promise<void> {
    this.calls.push("detach");
    if (this.failure !== undefined) throw this.failure;
    this.attached.delete(id);
    await Promise.resolve();
  }

  async giveUp(id: string): Promise<void> {
    this.calls.push("give up");
    this.attached.delete(id);
    await Promise.resolve();
  }

  readiness() {
    return Promise.resolve(this.ready);
  }

  usePodCidr(podCidr: string): void {
    this.calls.push(`cidr ${podCidr}`);
  }

  recover(wanted: WantedSandboxes): Promise<void> {
    this.wanted = wanted;
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

function withNetworks(
  use: (test: TestRuntime & { networks: TestNetworks }) => Promise<void>,
): Promise<void> {
  return withRuntime(async (test) => {
    const networks = new TestNetworks();
    test.runtime.networks = networks;
    await use({ ...test, networks });
  });
}

const ON_THE_NODE = sandboxRequest({
  config: {
    metadata: { name: "host", namespace: "ns", uid: "u" },
    linux: { securityContext: { namespaceOptions: { network: NamespaceMode.NODE } } },
  },
});

const failing = () => new CriError("UNAVAILABLE", "The network plugin bridge failed");

Deno.test("runPodSandbox() attaches a pod once when it is asked for twice at the same time", () =>
  withNetworks(async ({ runtime, networks, store }) => {
    const ids = await Promise.all([
      runPodSandbox(runtime, sandboxRequest(), NEVER),
      runPodSandbox(runtime, sandboxRequest(), NEVER),
    ]);
    assertEquals(ids, [store.sandboxes.all()[0]?.id, store.sandboxes.all()[0]?.id]);
    assertEquals(networks.calls, ["attach pod"]);
  }));

Deno.test("runPodSandbox() records nothing when the pod cannot be attached", () =>
  withNetworks(async ({ runtime, networks, store }) => {
    networks.failure = failing();
    await assertRejects(() => runPodSandbox(runtime, sandboxRequest(), NEVER), CriError, "bridge");
    assertEquals(store.sandboxes.all(), []);
  }));

Deno.test("runPodSandbox() gives up the network of a pod that cannot be made", () =>
  withNetworks(async ({ runtime, adapter, networks, store }) => {
    adapter.failures.run = new Error("no room");
    await assertRejects(() => runPodSandbox(runtime, sandboxRequest(), NEVER), Error, "no room");
    assertEquals([networks.calls, store.sandboxes.all()], [["attach pod", "give up"], []]);
  }));

Deno.test("runPodSandbox() makes no network for a pod that is refused", () =>
  withNetworks(async ({ runtime, adapter, networks }) => {
    adapter.failures.check = new Error("no such thing");
    await assertRejects(() => runPodSandbox(runtime, sandboxRequest(), NEVER), Error, "no such");
    const onNode = runPodSandbox(runtime, ON_THE_NODE, NEVER);
    await assertRejects(() => onNode, Error, "no such");
    assertEquals([networks.calls, adapter.checked.map(({ ownNetwork }) => ownNetwork)], [
      [],
      [true, false],
    ]);
  }));

Deno.test("a pod on the node's network has neither network nor address of its own", () =>
  withNetworks(async ({ runtime, networks }) => {
    const id = await runPodSandbox(runtime, ON_THE_NODE, NEVER);
    const { status } = podSandboxStatus(runtime, id, false);
    assertEquals([networks.calls, status?.network], [[], { ip: "", additionalIps: [] }]);
  }));

Deno.test("podSandboxStatus() tells all addresses of a pod, and none when it was stopped", () =>
  withNetworks(async ({ runtime }) => {
    const id = await runPodSandbox(runtime, sandboxRequest(), NEVER);
    const before = podSandboxStatus(runtime, id, true);
    assertEquals(before.status?.network, {
      ip: "10.0.0.2",
      additionalIps: [{ ip: "fd00::2" }],
    });
    assertEquals(JSON.parse(before.info["info"] ?? "").network.netnsPath, `/ns/${id}`);
    await stopPodSandbox(runtime, id, NEVER);
    assertEquals(podSandboxStatus(runtime, id, false).status?.network, {
      ip: "",
      additionalIps: [],
    });
  }));

Deno.test("podSandboxStatus() tells the node's address when a pod in service has no network", () =>
  withNetworks(async ({ runtime, networks }) => {
    const id = await runPodSandbox(runtime, sandboxRequest(), NEVER);
    networks.attached.clear();
    assertEquals(podSandboxStatus(runtime, id, false).status?.network?.ip, "192.0.2.1");
  }));

Deno.test("stopPodSandbox() fails until the pod is detached, and removePodSandbox() with it", () =>
  withNetworks(async ({ runtime, networks, store }) => {
    const id = await runPodSandbox(runtime, sandboxRequest(), NEVER);
    networks.failure = failing();
    for (const verb of [stopPodSandbox, removePodSandbox]) {
      await assertRejects(() => verb(runtime, id, NEVER), CriError, "bridge");
      assertEquals(store.sandboxes.get(id)?.state, "notready");
    }
    networks.failure = undefined;
    await removePodSandbox(runtime, id, NEVER);
    assertEquals([store.sandboxes.all(), networks.attached.size], [[], 0]);
  }));

Deno.test("runtimeStatus() says in containerd's words why pods cannot be attached", () =>
  withNetworks(async ({ runtime, networks }) => {
    networks.ready = { ready: false, message: "cni plugin not initialized: …" };
    const { status } = await runtimeStatus(runtime, false);
    assertEquals(status?.conditions[1], {
      type: "NetworkReady",
      status: false,
      reason: "NetworkPluginNotReady",
      message: "Network plugin returns error: cni plugin not initialized: …",
    });
  }));

Deno.test("updateRuntimeConfig() passes the node's pod addresses on", () =>
  withNetworks(async ({ runtime, networks }) => {
    const context = { signal: NEVER } as never;
    const runtimeConfig = { networkConfig: { podCidr: "10.1.0.0/24" } };
    await runtimeHandlers(runtime).updateRuntimeConfig?.({ runtimeConfig }, context);
    assertEquals(networks.calls, ["cidr 10.1.0.0/24"]);
  }));

Deno.test("recoverSandboxNetworks() wants the networks of pods in service", () =>
  withNetworks(async ({ runtime, networks, store }) => {
    const log = createLogger({ threshold: "error", write: () => {} });
    const [one, two] = [
      await runPodSandbox(runtime, sandboxRequest(), NEVER),
      await runPodSandbox(
        runtime,
        sandboxRequest({ config: { metadata: { name: "two", namespace: "ns", uid: "u2" } } }),
        NEVER,
      ),
    ];
    await stopPodSandbox(runtime, two, NEVER);
    await recoverSandboxNetworks(networks, store, log);
    assertEquals([one, two, "gone"].map((id) => networks.wanted(id)?.metadata?.name), [
      "pod",
      undefined,
      undefined,
    ]);
  }));

Deno.test("recoverSandboxNetworks() warns of networks that nobody will remove", () =>
  withRuntime(async ({ store }) => {
    const lines: string[] = [];
    const log = createLogger({ threshold: "warning", write: (line) => void lines.push(line) });
    await recoverSandboxNetworks(undefined, store, log);
    assertEquals(lines, []);
    store.networkAttachments.put({
      id: "s1",
      phase: "attached",
      netnsPath: "/ns",
      addresses: [],
      attachment: {},
    });
    await recoverSandboxNetworks(undefined, store, log);
    assertEquals([lines.length, lines[0]?.includes("--enable-pod-network")], [1, true]);
  }));

Deno.test("networkPath() never takes the node's network for a pod that must have its own", () =>
  withNetworks(async ({ networks, store }) => {
    const own = PodSandboxConfig.fromPartial({});
    const onNode = PodSandboxConfig.fromPartial({
      linux: { securityContext: { namespaceOptions: { network: NamespaceMode.NODE } } },
    });
    const path = (config: PodSandboxConfig) => networkPath(networks, store, "s1", config);
    const refused = (served: PodNetworks | undefined, code: string, words: string) => {
      const error = assertThrows(() => networkPath(served, store, "s1", own), CriError, words);
      assertEquals(error.code, code);
    };
    assertEquals(networkPath(undefined, store, "s1", own), undefined);
    store.sandboxes.put(sandboxRecord({ id: "s1" }));
    refused(networks, "FAILED_PRECONDITION", "it was made without --enable-pod-network: remove it");
    store.networkAttachments.put({
      id: "s1",
      phase: "namespace",
      netnsPath: "/ns/s1",
      addresses: [],
      attachment: {},
    });
    refused(networks, "UNAVAILABLE", "no network at present");
    refused(undefined, "FAILED_PRECONDITION", "only a server with --enable-pod-network can use");
    await networks.attach("s1", own);
    assertEquals([path(own), path(onNode)], ["/ns/s1", undefined]);
    refused(undefined, "FAILED_PRECONDITION", "only a server with --enable-pod-network can use");
    assertEquals(networkPath(undefined, store, "s1", onNode), undefined);
  }));
