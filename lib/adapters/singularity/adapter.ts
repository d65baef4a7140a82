import { join } from "@std/path";
import { CriError, messageOf } from "../../base/error.ts";
import type { ContainerUser, Signal } from "../../cri/api.generated.ts";
import type { ContainerRecord } from "../../store/records.ts";
import { checkLogPath, logPathOf } from "../../logs/log_path.ts";
import type { CommandRunner, PortForwarder, StreamsWanted } from "../../streaming/process.ts";
import type {
  Adapter,
  AdapterCondition,
  AdapterFeatures,
  ContainerRequest,
  ContainerUsage,
  ExecResult,
  LayerUsage,
  ResourceChange,
} from "../adapter.ts";
import { attach } from "./attach.ts";
import { checkPath } from "./bundle/paths.ts";
import { resourcesOf } from "./bundle/resources.ts";
import { changeResources, pidIn } from "./container_files.ts";
import { Containers } from "./containers.ts";
import { execStream, execSync, type NodeCommand } from "./exec.ts";
import { nodeFeatures } from "./features.ts";
import { ImageRoots } from "./image_roots.ts";
import { LayerSizes } from "./layer_sizes.ts";
import { changeWhole } from "./limits.ts";
import { Node } from "./node.ts";
import { OciRuntime } from "./oci_runtime.ts";
import { Places } from "./places.ts";
import { PodCgroups } from "./pod_cgroups.ts";
import { Pods } from "./pods.ts";
import { portForwarder } from "./port_forward.ts";
import type { NodeMeans } from "./means.ts";
import { type NodeWorkload, prepareBundle, type PreparePlace } from "./prepare.ts";
import { signalOf, stopSignal } from "./stop_signal.ts";
import { NodeUsages } from "./usage.ts";

/** Runs containers on this node, as root: their images are mounted by Apptainer, their bundles run by crun. */
export class SingularityAdapter implements Adapter {
  readonly name = "singularity";
  readonly pods: Pods;
  readonly #runtime: OciRuntime;
  readonly #usages: NodeUsages;
  readonly #sizes: LayerSizes;
  readonly #containers: Containers;

  private constructor(
    private readonly means: NodeMeans,
    private readonly place: PreparePlace,
    readonly features: AdapterFeatures,
  ) {
    const { config, executor, store, clock, log, systemdCgroups } = means;
    this.pods = place.pods;
    this.#runtime = new OciRuntime(executor, config.stateDir, systemdCgroups);
    this.#usages = new NodeUsages(place.node, clock);
    this.#sizes = new LayerSizes(executor, place.places, store.containers, clock, log);
    this.#containers = new Containers(means, place, this.#runtime, (sandboxId) => {
      this.#retireBroken(sandboxId).catch((error) => {
        log.warning("Cannot look at a pod", { sandbox: sandboxId, error: messageOf(error) });
      });
    });
  }

  /** Looks at the node first. @throws CriError INTERNAL when that is impossible. */
  static async open(means: NodeMeans): Promise<SingularityAdapter> {
    const { config, store, executor, systemdCgroups } = means;
    const node = new Node(executor);
    const places = new Places(config.rootDir, config.stateDir);
    const { pods, bundles, layers, ...closed } = places.folders;
    for (const folder of Object.values(closed)) {
      await Deno.mkdir(folder, { recursive: true, mode: 0o700 });
    }
    // The root of a pod with users of its own must pass through to what it mounts; nobody can list them.
    for (const folder of [pods, bundles, layers, config.rootDir, config.stateDir]) {
      await Deno.mkdir(folder, { recursive: true });
      await Deno.chmod(folder, 0o711);
    }
    const facts = await node.facts();
    const cgroups = systemdCgroups ? undefined : new PodCgroups(node, places);
    const place = {
      node,
      places,
      facts,
      pods: new Pods(node, places, means.networkOf, means.nodeName, cgroups),
      imageRoots: new ImageRoots(executor, node, places, means.clock, means.log),
      containers: store.containers,
      systemdCgroups,
    };
    return new SingularityAdapter(means, place, await nodeFeatures(executor, facts.kernel));
  }

  async prepareContainer(request: ContainerRequest): Promise<NodeWorkload> {
    const { sandbox, config } = request;
    checkPath("log", logPathOf(sandbox, config), false);
    await checkLogPath(sandbox, config, this.means.config.podLogsDir);
    return await prepareBundle(this.place, request);
  }

  async startContainer(id: string): Promise<void> {
    try {
      await this.#containers.start(id);
    } catch (error) {
      const sandboxId = this.means.store.containers.get(id)?.sandboxId;
      // A kubelet makes a pod anew that is out of service, and else would try for ever.
      if (sandboxId !== undefined) await this.#retireBroken(sandboxId).catch(() => {});
      throw error;
    }
  }

  async stopContainer(id: string, graceMs: number, signal: AbortSignal): Promise<void> {
    await this.#containers.stop(id, graceMs, signal);
  }

  /** What runs here can always be reached, so that giving it up is ending it. */
  async abandonContainer(id: string): Promise<void> {
    await this.#containers.stop(id, 0, new AbortController().signal);
  }

  async removeContainer(container: ContainerRecord): Promise<void> {
    await this.#containers.remove(container);
    this.#usages.forget(container.id);
    this.#sizes.forget(container.id);
  }

  async reopenLog(id: string): Promise<void> {
    const container = this.#containers.require(id);
    await container.log.reopen();
    // What waits for room goes on now.
    container.touch();
  }

  async updateResources(container: ContainerRecord, { after }: ResourceChange): Promise<void> {
    const resources = resourcesOf(after, this.place.facts);
    if (container.state.phase === "running") {
      const { bundle } = this.place.places.container(container.id);
      const unified = Object.keys(resources.unified ?? {});
      await changeWhole(this.place.node, join(bundle, "cgroups"), unified, async () => {
        await this.#runtime.update(container.id, resources);
      });
    } else {
      await changeResources(this.place.places.container(container.id).bundle, resources);
    }
  }

  async execSync(
    id: string,
    argv: readonly string[],
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<ExecResult> {
    const command = this.#command(id, argv, timeoutMs);
    return await execSync(this.means, this.#runtime, command, signal);
  }

  openExec(id: string, argv: readonly string[], tty: boolean): Promise<CommandRunner> {
    const command = this.#command(id, argv, 0);
    return Promise.resolve((streams, gone) =>
      execStream(this.means, this.#runtime, command, tty, streams, gone)
    );
  }

  openAttach(id: string, { stdin }: StreamsWanted): Promise<CommandRunner> {
    const container = this.#containers.require(id);
    const { store, clock } = this.means;
    const { config } = this.#containers.record(id);
    const input = { path: this.place.places.container(id).input, config, wanted: stdin };
    const hasEnded = () => store.containers.get(id)?.state.phase !== "running";
    return Promise.resolve((streams, gone) =>
      attach({ container, input, hasEnded }, clock, streams, gone)
    );
  }

  async openPortForward(ids: readonly string[]): Promise<PortForwarder> {
    const { store, networkOf } = this.means;
    const sandboxId = store.containers.get(ids[0] ?? "")?.sandboxId ?? "";
    const sandbox = store.sandboxes.get(sandboxId);
    if (sandbox === undefined) throw new CriError("NOT_FOUND", "The pod of the port is gone.");
    return await Promise.resolve(portForwarder(this.means, networkOf(sandboxId, sandbox.config)));
  }

  async measure(): Promise<void> {
    // Nobody waits for it: a layer may be large.
    void this.#sizes.refresh();
    await this.#usages.measure(() => this.#containers.cgroupLists());
  }

  usage(id: string): ContainerUsage | undefined {
    return this.#usages.of(id);
  }

  layerUsage(id: string): LayerUsage | undefined {
    return this.#sizes.of(id);
  }

  layersUsage(): LayerUsage {
    // Nobody waits for it, as in `measure`.
    void this.#sizes.refresh();
    return this.#sizes.total();
  }

  userOf({ workload }: ContainerRecord): ContainerUser {
    const { uid, gid, additionalGids } = (workload as NodeWorkload).user;
    return {
      linux: {
        uid: BigInt(uid),
        gid: BigInt(gid),
        supplementalGroups: additionalGids.map(BigInt),
      },
    };
  }

  stopSignalOf({ config, workload }: ContainerRecord): Signal {
    return signalOf(stopSignal(config.stopSignal, (workload as NodeWorkload).stopSignal));
  }

  describeContainer(container: ContainerRecord): Record<string, unknown> {
    const { bundle } = this.place.places.container(container.id);
    return {
      // Where other runtimes have it, for nsenter(1) and the like.
      ...(container.state.phase === "running" ? { pid: pidIn(bundle) } : {}),
      singularity: { ...container.workload as NodeWorkload, bundle },
    };
  }

  conditions(): AdapterCondition[] {
    return [];
  }

  async recover(): Promise<void> {
    const { store, log } = this.means;
    await this.#containers.recover();
    for (const { id } of store.sandboxes.all()) await this.#retireBroken(id);
    await this.pods.removeUnknown(new Set(store.sandboxes.all().map(({ id }) => id)))
      .catch((error) => {
        log.error("Cannot remove what is left of earlier pods", { error: messageOf(error) });
      });
  }

  /** Takes a pod out of service that has lost what its containers share. */
  async #retireBroken(sandboxId: string): Promise<void> {
    const { store, log } = this.means;
    const sandbox = store.sandboxes.get(sandboxId);
    if (sandbox?.state !== "ready" || await this.pods.isWhole(sandboxId, sandbox.config)) return;
    log.info("A pod is out of service, as after a reboot", { sandbox: sandboxId });
    store.sandboxes.settle(sandboxId, (record) => ({ ...record, state: "notready" }));
  }

  async close(): Promise<void> {
    await this.#sizes.close();
    await this.#containers.close();
    await this.place.imageRoots.close();
  }

  #command(id: string, argv: readonly string[], timeoutMs: number): NodeCommand {
    const { bundle } = this.place.places.container(id);
    return { containerId: id, bundle, argv, timeoutMs };
  }
}
