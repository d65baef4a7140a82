/** Small runtimes in memory, and a router before them over real sockets, for the tests of this directory. */
import { delay } from "@std/async/delay";
import { systemClock } from "../base/clock.ts";
import { CriError } from "../base/error.ts";
import { createLogger } from "../base/log.ts";
import { parseInvocation } from "../config/flags.ts";
import {
  ContainerState,
  type CreateContainerRequest,
  type DeepPartial,
  ImageStatusRequest,
  PodSandboxState,
  type RunPodSandboxRequest,
} from "../cri/api.generated.ts";
import {
  backendFromHandlers,
  type CallContext,
  type CriBackend,
  type CriHandlers,
  methodOf,
  type RequestOf,
  type ResponseOf,
  type RpcKey,
} from "../cri/service.ts";
import type { Heartbeat } from "../remote/remote_runtime.ts";
import { type CriServer, serveCri } from "../server/server.ts";
import { type OpenRouter, openRouter } from "./open.ts";

/** grpc-js holds a timer until its next try to connect, also when its client was closed: a second and a jitter. */
const RECONNECT_MS = 1_300;

const log = createLogger({ threshold: "error", write: () => {} });

export const CONTEXT: CallContext = { signal: new AbortController().signal, log };

interface Sandbox {
  id: string;
  request: RunPodSandboxRequest;
  state: PodSandboxState;
}
interface Container {
  id: string;
  request: CreateContainerRequest;
  state: ContainerState;
}

/** A runtime that only keeps books. Each call is written down as `RPC id-or-name`. */
export class BookRuntime {
  readonly calls: string[] = [];
  readonly sandboxes = new Map<string, Sandbox>();
  readonly containers = new Map<string, Container>();
  /** Image ids by name. */
  readonly images = new Map<string, string>();
  /** Calls of these wait until the promise is fulfilled. */
  readonly gates: { [K in RpcKey]?: Promise<void> } = {};
  /** Replaces or takes away (undefined) what it answers. */
  readonly changes: { [K in RpcKey]?: CriHandlers[K] | undefined } = {};
  #made = 0;

  /** `digit` begins and fills its ids, so that they tell their runtime. */
  constructor(readonly name: string, readonly digit: string) {}

  #newId(): string {
    return `${this.digit}${String(++this.#made).padStart(3, "0")}`.padEnd(64, this.digit);
  }

  get backend(): CriBackend {
    const cri = backendFromHandlers(
      { ...this.#handlers(), ...this.changes as Partial<CriHandlers> },
      (rpc) => `${this.name} has no ${rpc}`,
    );
    return {
      unary: async (method, request, context) => {
        await this.gates[method.key];
        return await cri.unary(method, request, context);
      },
      serverStream: (method, request, context) => cri.serverStream(method, request, context),
    };
  }

  #handlers(): Partial<CriHandlers> {
    const note = (rpc: string, what: string) => void this.calls.push(`${rpc} ${what}`);
    const condition = (type: string) => ({ type, status: true, reason: "", message: "" });
    return {
      version: () => Promise.resolve({ runtimeName: this.name }),
      status: () =>
        Promise.resolve({
          status: { conditions: [condition("RuntimeReady"), condition("NetworkReady")] },
          runtimeHandlers: [
            { name: "", features: { userNamespaces: this.digit === "d" } },
            { name: "kata", features: { recursiveReadOnlyMounts: true } },
          ],
          features: { supplementalGroupsPolicy: this.digit === "d" },
        }),
      runtimeConfig: () => Promise.resolve({ linux: { cgroupDriver: this.digit === "d" ? 1 : 0 } }),
      updateRuntimeConfig: ({ runtimeConfig }) => {
        note("update", runtimeConfig?.networkConfig?.podCidr ?? "");
        return Promise.resolve({});
      },
      runPodSandbox: (request) => {
        note("run", `${request.config?.metadata?.name} '${request.runtimeHandler}'`);
        const id = this.#newId();
        this.sandboxes.set(id, { id, request, state: PodSandboxState.SANDBOX_READY });
        return Promise.resolve({ podSandboxId: id });
      },
      podSandboxStatus: ({ podSandboxId: id }) => {
        const sandbox = [...this.sandboxes.values()].find((one) => one.id.startsWith(id));
        if (sandbox === undefined) throw new CriError("NOT_FOUND", `${this.name} has no ${id}`);
        const { metadata } = sandbox.request.config ?? {};
        return Promise.resolve({
          status: { id: sandbox.id, state: sandbox.state, ...(metadata ? { metadata } : {}) },
          containersStatuses: [...this.containers.values()]
            .filter(({ request }) => request.podSandboxId === sandbox.id)
            .map(({ id, state, request }) => ({ id, state, imageRef: imageOf(request) })),
        });
      },
      removePodSandbox: ({ podSandboxId }) => {
        note("remove", podSandboxId);
        this.sandboxes.delete(podSandboxId);
        return Promise.resolve({});
      },
      listPodSandbox: ({ filter }) =>
        Promise.resolve({
          items: [...this.sandboxes.values()]
            .filter(({ id }) => id.startsWith(filter?.id ?? ""))
            .map(({ id, request: { config }, state }) => ({
              id,
              state,
              labels: config?.labels ?? {},
              ...(config?.metadata ? { metadata: config.metadata } : {}),
            })),
        }),
      createContainer: (request) => {
        note("create", imageOf(request));
        const id = this.#newId();
        this.containers.set(id, { id, request, state: ContainerState.CONTAINER_CREATED });
        return Promise.resolve({ containerId: id });
      },
      startContainer: ({ containerId }) => {
        note("start", containerId);
        const container = this.containers.get(containerId);
        if (container) container.state = ContainerState.CONTAINER_RUNNING;
        return Promise.resolve({});
      },
      removeContainer: ({ containerId }) => {
        note("remove", containerId);
        this.containers.delete(containerId);
        return Promise.resolve({});
      },
      containerStatus: ({ containerId: id }) => {
        const container = [...this.containers.values()].find((one) => one.id.startsWith(id));
        if (container === undefined) throw new CriError("NOT_FOUND", `${this.name} has no ${id}`);
        const { state, request } = container;
        return Promise.resolve({
          status: {
            id: container.id,
            state,
            imageRef: "name@sha256:0",
            imageId: imageOf(request),
            mounts: request.config?.mounts ?? [],
          },
        });
      },
      listContainers: ({ filter }) =>
        Promise.resolve({
          containers: [...this.containers.values()]
            .filter(({ id, request: { podSandboxId } }) =>
              id.startsWith(filter?.id ?? "") && podSandboxId.startsWith(filter?.podSandboxId ?? "")
            )
            .map(({ id, request, state }) => ({
              id,
              state,
              podSandboxId: request.podSandboxId,
              imageRef: imageOf(request),
              imageId: imageOf(request),
              labels: request.config?.labels ?? {},
            })),
        }),
      imageStatus: ({ image }) => {
        const found = this.#image(image?.image ?? "");
        return Promise.resolve(found ? { image: { id: found } } : {});
      },
      pullImage: ({ image }) => {
        const name = image?.image ?? "";
        note("pull", name);
        if (!this.images.has(name)) this.images.set(name, imageId(name));
        return Promise.resolve({ imageRef: this.images.get(name) ?? "" });
      },
      removeImage: ({ image }) => {
        note("remove", image?.image ?? "");
        for (const [name, id] of this.images) {
          if (id === this.#image(image?.image ?? "")) this.images.delete(name);
        }
        return Promise.resolve({});
      },
      listImages: () =>
        Promise.resolve({
          images: [...this.images].map(([name, id]) => ({ id, repoTags: [name] })),
        }),
      imageFsInfo: () =>
        Promise.resolve({ imageFilesystems: [{ fsId: { mountpoint: `/${this.name}` } }] }),
      listMetricDescriptors: () =>
        Promise.resolve({ descriptors: [{ name: "cpu" }, { name: this.name }] }),
    };
  }

  #image(name: string): string | undefined {
    return this.images.get(name) ??
      [...this.images.values()].find((id) =>
        name.length >= 12 && id.startsWith(name.startsWith("sha256:") ? name : `sha256:${name}`)
      );
  }
}

/** The same name has the same id in every runtime, as digests have it. */
export function imageId(name: string): string {
  const digits = new TextEncoder().encode(name).toHex();
  return `sha256:${digits.padEnd(64, "0").slice(0, 64)}`;
}

function imageOf({ config }: CreateContainerRequest): string {
  return config?.image?.image ?? "";
}

/** A router before our own runtime and remote ones. */
export interface TestNode {
  own: BookRuntime;
  remotes: readonly ServedRuntime[];
  /** The remote of a name. */
  remote(name: string): ServedRuntime;
  call<K extends RpcKey>(key: K, request?: DeepPartial<RequestOf<K>>): Promise<ResponseOf<K>>;
  backend: CriBackend;
  /** Closes the router and opens one that knows only what the first has saved, or what `between` has put there. */
  restart(between?: () => Promise<void>): Promise<void>;
  stateDir: string;
}

/** A runtime behind a socket, which can go away and come back. */
export class ServedRuntime {
  #server: CriServer | undefined;

  constructor(readonly runtime: BookRuntime, readonly socketPath: string) {}

  get isUp(): boolean {
    return this.#server !== undefined;
  }

  async up(): Promise<void> {
    const { socketPath, runtime: { backend } } = this;
    this.#server = await serveCri({ socketPath, backend, log, clock: systemClock });
  }

  async down(): Promise<void> {
    await this.#server?.close();
    this.#server = undefined;
  }
}

/** Runs `use` with remotes by name; their ids begin with the name's first letter if that is a hex digit. */
export async function withNode(
  names: readonly string[],
  use: (node: TestNode) => Promise<void>,
  { flags = [], up = names, heartbeat }: {
    flags?: string[];
    up?: readonly string[];
    heartbeat?: Heartbeat;
  } = {},
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "multicri-router-" });
  const own = new BookRuntime("multicri", "0");
  const remotes = names.map((name) =>
    new ServedRuntime(new BookRuntime(name, name.charAt(0)), `${directory}/${name}.sock`)
  );
  for (const remote of remotes) if (up.includes(remote.runtime.name)) await remote.up();
  const invocation = parseInvocation([
    `--remote-runtime-endpoints=${
      names.map((name) => `${name}:${directory}/${name}.sock`).join(",")
    }`,
    `--state-dir=${directory}`,
    ...flags,
  ], () => undefined);
  if (invocation.kind !== "serve") throw new Error("expected a configuration");
  const beginning = (map: ReadonlyMap<string, unknown>) => (prefix: string) =>
    [...map.keys()].filter((id) => id.startsWith(prefix));
  const open = () =>
    openRouter(
      invocation.config,
      own.backend,
      {
        sandboxes: beginning(own.sandboxes),
        containers: beginning(own.containers),
        hasPod: (uid) =>
          [...own.sandboxes.values()].some(({ request }) => request.config?.metadata?.uid === uid),
      },
      systemClock,
      log,
      heartbeat,
    );
  let router: OpenRouter = await open();
  const close = async () => {
    await router.close();
    if (!remotes.every(({ isUp }) => isUp)) await delay(RECONNECT_MS);
  };
  try {
    await use({
      own,
      remotes,
      remote: (name) => {
        const found = remotes.find(({ runtime }) => runtime.name === name);
        if (found === undefined) throw new Error(`There is no remote ${name}.`);
        return found;
      },
      get backend() {
        return router.backend;
      },
      call: async (key, request) => await callOf(router.backend, key, request),
      restart: async (between) => {
        await close();
        await between?.();
        router = await open();
      },
      stateDir: directory,
    });
  } finally {
    await close();
    for (const remote of remotes) await remote.down();
    await Deno.remove(directory, { recursive: true });
  }
}

async function callOf<K extends RpcKey>(
  backend: CriBackend,
  key: K,
  request: DeepPartial<RequestOf<K>> | undefined,
): Promise<ResponseOf<K>> {
  const method = methodOf(key);
  const bytes = method.request.encode(method.request.fromPartial(request ?? {})).finish();
  return method.response.decode(await backend.unary(method, bytes, CONTEXT)) as ResponseOf<K>;
}

/** A request for the image of a name, with what a kubelet may know of its pod. */
export function imageRequest(
  image: string,
  more: Record<string, unknown> = {},
): ImageStatusRequest {
  return ImageStatusRequest.fromPartial({ image: { image, ...more } });
}
