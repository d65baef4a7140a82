import type { Clock } from "../base/clock.ts";
import { CriError, messageOf } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { type CallContext, type CriBackend, type CriMethod, methodOf } from "../cri/service.ts";
import { isBlank, isMessage, stringAt, withString } from "../cri/wire.ts";
import { type Backend, impatient, RemoteBackend } from "./backend.ts";
import { createContainer } from "./container_create.ts";
import { joinEvents } from "./events.ts";
import type { Handlers } from "./handlers.ts";
import { markOf } from "./image_ids.ts";
import { ImageRoutes } from "./image_route.ts";
import { joinFilesystems, joinLists } from "./join.ts";
import { nodeStatus } from "./node_status.ts";
import type { Owners } from "./owners.ts";
import { RULES } from "./rules.ts";

/** The id of a sandbox or container in the requests that are routed by it, and what a call made in its answer. */
const ID = [1];

/** The path of a pod's UID in PodSandboxConfig. */
const POD_UID = [1, 2];

/** What the router stands before. */
export interface RouterParts {
  own: Backend;
  remotes: readonly RemoteBackend[];
  handlers: Handlers;
  owners: Owners;
  clock: Clock;
  log: Logger;
}

/** One CRI made of several: each call goes where `RULES` says. */
export class Router implements CriBackend {
  /** The default one first: the kubelet looks at the first entry of some lists only. */
  readonly #backends: readonly Backend[];
  readonly #byName: ReadonlyMap<string, Backend>;
  readonly #images: ImageRoutes;
  #runtimeConfigUpdate: Uint8Array | undefined;

  constructor(private readonly parts: RouterParts) {
    const { own, remotes, handlers } = parts;
    const others = [...remotes, own].filter((backend) => backend !== handlers.default);
    this.#backends = [handlers.default, ...others];
    this.#byName = new Map(this.#backends.map((backend) => [backend.name, backend]));
    this.#images = new ImageRoutes(this.#byName, handlers, parts.owners);
    for (const backend of remotes) {
      backend.remote.onChange(({ kind }) => {
        if (kind === "up") this.#welcome(backend);
      });
    }
  }

  async unary(method: CriMethod, request: Uint8Array, context: CallContext): Promise<Uint8Array> {
    const { own, remotes, handlers, clock } = this.parts;
    const rule = RULES[method.key];
    switch (rule.by) {
      case "own":
        return await own.cri.unary(method, request, context);
      case "sandbox":
      case "container":
        return await this.#byId(method, rule, request, context);
      case "handler":
        return await this.#byHandler(method, rule, request, context);
      case "image": {
        const route = await this.#images.route(method, request, context);
        return await route.backend.cri.unary(method, route.request, context);
      }
      case "list":
        return await this.#list(method, request, context);
      case "status":
        return await nodeStatus(request, context, own, remotes, handlers, clock);
      case "runtimeConfig":
        return await this.#runtimeConfig(method, request, context);
      case "updateRuntimeConfig":
        return await this.#updateRuntimeConfig(method, request, context);
      case "listStream":
      case "events":
        throw new TypeError(`${method.name} is answered by a stream`);
      default:
        return rule satisfies never;
    }
  }

  async *serverStream(
    method: CriMethod,
    request: Uint8Array,
    context: CallContext,
  ): AsyncGenerator<Uint8Array> {
    const rule = RULES[method.key];
    if (rule.by === "events") {
      yield* joinEvents(this.#backends, method, request, context, this.parts);
    } else if (rule.by === "listStream") {
      const list = methodOf(rule.list);
      const parts = await Promise.all(
        this.#backends.map((backend) =>
          streamList(backend, method, list, request, context, this.parts.clock)
        ),
      );
      yield* parts.flat();
    } else throw new TypeError(`${method.name} is no stream`);
  }

  async #byId(
    method: CriMethod,
    { by, changes }: { by: "sandbox" | "container"; changes?: true },
    request: Uint8Array,
    context: CallContext,
  ): Promise<Uint8Array> {
    const { owners } = this.parts;
    const id = stringAt(request, ID);
    const backend = owners.known(by, id) ?? await owners.of(by, id, context);
    const answer = method.key === "createContainer"
      ? await createContainer(backend, this.parts.handlers.default, request, context)
      : await backend.cri.unary(method, request, context);
    if (method.key === "createContainer") owners.remember(stringAt(answer, ID), backend);
    if (method.key === "removeContainer" || method.key === "removePodSandbox") {
      if (backend instanceof RemoteBackend) backend.known.removed(id);
    }
    if (changes) refresh(backend);
    return answer;
  }

  async #byHandler(
    method: CriMethod,
    rule: { handler: number; config: number },
    request: Uint8Array,
    context: CallContext,
  ): Promise<Uint8Array> {
    const { handlers, owners } = this.parts;
    const asked = stringAt(request, [rule.handler]);
    const { backend, handler } = handlers.target(asked, podName(request, rule.config));
    const renamed = handler === asked ? request : withString(request, rule.handler, handler);
    owners.rememberPod(stringAt(request, [rule.config, ...POD_UID]), backend);
    const answer = await backend.cri.unary(method, renamed, context);
    owners.remember(stringAt(answer, ID), backend);
    refresh(backend);
    return answer;
  }

  async #list(method: CriMethod, request: Uint8Array, context: CallContext): Promise<Uint8Array> {
    const backends = this.#listed(method, request);
    const parts = await Promise.all(
      backends.map((backend) => backend.list(method, request, context)),
    );
    if (method.key === "imageFsInfo") return joinFilesystems(parts, backends);
    const answers = parts.filter((part) => part !== undefined);
    if (answers.length > 0) return joinLists(method, answers);
    // Nobody has it: our own runtime says so in its words.
    return await this.parts.own.cri.unary(method, request, context);
  }

  /** The backends that can have a part in a list: one when its filter names what only that one has. */
  #listed(method: CriMethod, request: Uint8Array): readonly Backend[] {
    if (isBlank(request)) return this.#backends;
    const { owners } = this.parts;
    const id = stringAt(request, [1, 1]);
    let only: Backend | undefined;
    if (method.key === "listPodSandbox") only = owners.known("sandbox", id);
    if (method.key === "listContainers") only = owners.known("container", id);
    if (method.key === "listImages") {
      only = this.#byName.get(markOf(stringAt(request, [1, 1, 1])) ?? "");
    }
    return only === undefined ? this.#backends : [only];
  }

  /**
   * The default runtime's. A kubelet ends when this fails some times at its start, so while that runtime is away its
   * last answer counts, or what this node would choose.
   */
  async #runtimeConfig(
    method: CriMethod,
    request: Uint8Array,
    context: CallContext,
  ): Promise<Uint8Array> {
    const { own, handlers, clock, log } = this.parts;
    const backend = handlers.default;
    try {
      return await backend.cri.unary(method, request, impatient(context, backend, clock));
    } catch (error) {
      context.signal.throwIfAborted();
      const isAway = error instanceof CriError &&
        (error.code === "UNAVAILABLE" || error.code === "DEADLINE_EXCEEDED");
      if (!(backend instanceof RemoteBackend) || !isAway) throw error;
      const last = backend.known.answer(method, request);
      log.warning("The default runtime's settings are not to be had now", {
        given: last.length > 0 ? "its last ones" : "the node's own",
        error: messageOf(error),
      });
      return last.length > 0 ? last : await own.cri.unary(method, request, context);
    }
  }

  /** Tells every runtime; one that is away is told when it comes back, one that has no such call needs none. */
  async #updateRuntimeConfig(
    method: CriMethod,
    request: Uint8Array,
    context: CallContext,
  ): Promise<Uint8Array> {
    this.#runtimeConfigUpdate = request;
    await Promise.all(this.#backends.map(async (backend) => {
      try {
        await backend.cri.unary(method, request, context);
      } catch (error) {
        context.signal.throwIfAborted();
        const { code } = CriError.from(error);
        if (code === "UNIMPLEMENTED" || code === "UNAVAILABLE") return;
        if (backend === this.parts.handlers.default) throw error;
        this.#warnOfUpdate(backend, error);
      }
    }));
    return new Uint8Array();
  }

  #warnOfUpdate({ name }: Backend, error: unknown): void {
    this.parts.log.warning("A remote runtime did not take the node's configuration", {
      runtime: name,
      error: messageOf(error),
    });
  }

  /** A runtime has come (back): what was last known of it is made new, and it is told what it missed. */
  #welcome(backend: RemoteBackend): void {
    const { log } = this.parts;
    backend.learn();
    const update = this.#runtimeConfigUpdate;
    if (update === undefined) return;
    const context = { signal: new AbortController().signal, log };
    backend.cri.unary(methodOf("updateRuntimeConfig"), update, context)
      .catch((error) => this.#warnOfUpdate(backend, error));
  }
}

/** In the background: the answer to whoever changed something does not wait for it. */
function refresh(backend: Backend): void {
  if (backend instanceof RemoteBackend) backend.refresh();
}

function podName(request: Uint8Array, configField: number): string {
  const [name, namespace] = [[1, 1], [1, 3]].map((path) =>
    stringAt(request, [configField, ...path])
  );
  return `the pod ${namespace}/${name}`;
}

/**
 * A backend's part of a list in several messages, or in one when it has only the list or does not answer. It is whole
 * before any of it is passed on: half of it and then what was last known would be twice.
 */
async function streamList(
  backend: Backend,
  stream: CriMethod,
  list: CriMethod,
  request: Uint8Array,
  context: CallContext,
  clock: Clock,
): Promise<Uint8Array[]> {
  const messages: Uint8Array[] = [];
  try {
    const patience = impatient(context, backend, clock);
    const answers = backend.cri.serverStream(
      stream,
      request,
      backend.remote === undefined ? context : patience,
    );
    for await (const message of answers) {
      if (!isMessage(message, 1)) throw new Error("its entries are no protobuf messages");
      messages.push(message);
    }
    return messages;
  } catch (error) {
    context.signal.throwIfAborted();
    const isMissing = error instanceof CriError && error.code === "UNIMPLEMENTED";
    if (backend.remote === undefined && !isMissing) throw error;
  }
  // Requests and answers of both have the same fields.
  const whole = await backend.list(list, request, context);
  return whole === undefined ? [] : [whole];
}
