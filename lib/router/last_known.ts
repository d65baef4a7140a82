import {
  Container,
  ContainerFilter,
  ContainerStats,
  ContainerStatsFilter,
  Image,
  ImageFilter,
  type MessageFns,
  PodSandbox,
  PodSandboxFilter,
  PodSandboxStats,
  PodSandboxStatsFilter,
} from "../cri/api.generated.ts";
import { type CriMethod, methodOf, type RpcKey } from "../cri/service.ts";
import { contentsOf, field, isMessage, stringAt, toBuffer } from "../cri/wire.ts";
import { concat } from "@std/bytes/concat";
import { matchesLabels } from "../runtime/lookup.ts";

/** What another process needs: figures and metrics are soon old. */
const SAVED: ReadonlySet<RpcKey> = new Set<RpcKey>([
  "listPodSandbox",
  "listContainers",
  "listImages",
  "imageFsInfo",
  "runtimeConfig",
]);

/** Ids that are remembered as removed: many more than go between two lists. */
const MAX_REMOVED = 1_000;

/** How entries of a list are chosen by the filter in field 1 of its request. */
interface Choice {
  entry: MessageFns<unknown>;
  filter: MessageFns<unknown>;
  matches(entry: unknown, filter: unknown, known: LastKnown): boolean;
}

function choice<Entry, Filter>(
  entry: MessageFns<Entry>,
  filter: MessageFns<Filter>,
  matches: (entry: Entry, filter: Filter, known: LastKnown) => boolean,
): Choice {
  return { entry, filter, matches } as Choice;
}

/** The lists that can be filtered. */
const CHOICES: { [K in RpcKey]?: Choice } = {
  listPodSandbox: choice(
    PodSandbox,
    PodSandboxFilter,
    (sandbox, filter) =>
      sandbox.id.startsWith(filter.id) &&
      (filter.state === undefined || filter.state.state === sandbox.state) &&
      matchesLabels(sandbox.labels, filter.labelSelector),
  ),
  listContainers: choice(
    Container,
    ContainerFilter,
    (container, filter) =>
      container.id.startsWith(filter.id) &&
      container.podSandboxId.startsWith(filter.podSandboxId) &&
      (filter.state === undefined || filter.state.state === container.state) &&
      matchesLabels(container.labels, filter.labelSelector),
  ),
  listContainerStats: choice(ContainerStats, ContainerStatsFilter, (stats, filter, known) => {
    const { id = "", labels = {} } = stats.attributes ?? {};
    // Statistics do not name their sandbox.
    const sandbox = known.containers.get(id)?.podSandboxId ?? "";
    return id.startsWith(filter.id) && sandbox.startsWith(filter.podSandboxId) &&
      matchesLabels(labels, filter.labelSelector);
  }),
  listPodSandboxStats: choice(
    PodSandboxStats,
    PodSandboxStatsFilter,
    ({ attributes }, filter) =>
      (attributes?.id ?? "").startsWith(filter.id) &&
      matchesLabels(attributes?.labels ?? {}, filter.labelSelector),
  ),
  listImages: choice(Image, ImageFilter, (image, filter) => {
    const name = filter.image?.image ?? "";
    return name === "" || [image.id, ...image.repoTags, ...image.repoDigests].includes(name);
  }),
};

/**
 * The last whole lists that a remote runtime gave. They stand while it does not answer, because a kubelet that
 * misses a container in a list believes that it ended.
 */
export class LastKnown {
  readonly #lists = new Map<RpcKey, { bytes: Uint8Array; askedAt: number }>();
  /** When a sandbox or container was removed, by id, on the same scale as `askedAt`. */
  readonly #removed = new Map<string, number>();
  #asked = 0;
  #version = 0;
  #sandboxes: Map<string, PodSandbox> | undefined;
  #containers: Map<string, Container> | undefined;

  /** To be called before a list is asked for: tells lists apart whose answers overtake each other. */
  asking(): number {
    return ++this.#asked;
  }

  /** Keeps the answer to a request without a filter that was asked for at `askedAt`. */
  keep({ key }: CriMethod, bytes: Uint8Array, askedAt: number): void {
    const before = this.#lists.get(key);
    if ((before?.askedAt ?? 0) > askedAt) return;
    this.#lists.set(key, { bytes, askedAt });
    if (!SAVED.has(key) || (before !== undefined && toBuffer(before.bytes).equals(bytes))) return;
    this.#version++;
    if (key === "listPodSandbox") this.#sandboxes = undefined;
    if (key === "listContainers") this.#containers = undefined;
  }

  /** Takes a sandbox or container out of the lists that were asked for until now. */
  removed(id: string): void {
    this.#removed.set(id, ++this.#asked);
    this.#version++;
    const [oldest] = this.#removed.keys();
    if (this.#removed.size > MAX_REMOVED && oldest !== undefined) this.#removed.delete(oldest);
  }

  /** What the runtime would have answered then; empty when it was never asked. */
  answer({ key }: CriMethod, request: Uint8Array): Uint8Array {
    const { bytes, askedAt } = this.#lists.get(key) ?? { bytes: new Uint8Array(), askedAt: 0 };
    const chosen = CHOICES[key];
    if (chosen === undefined) return bytes;
    const filter = chosen.filter.decode(contentsOf(request, 1).at(-1) ?? new Uint8Array());
    const isRemoved = (id: string) => (this.#removed.get(id) ?? -1) >= askedAt;
    const entries = contentsOf(bytes, 1).filter((entry) =>
      !isRemoved(stringAt(entry, [1])) &&
      // With a sandbox go its containers.
      !(key === "listContainers" && isRemoved(stringAt(entry, [2]))) &&
      chosen.matches(chosen.entry.decode(entry), filter, this)
    );
    return concat(entries.map((entry) => field(1, entry)));
  }

  /** By id. */
  get sandboxes(): ReadonlyMap<string, PodSandbox> {
    return this.#sandboxes ??= this.#byId("listPodSandbox", PodSandbox);
  }

  /** By id. */
  get containers(): ReadonlyMap<string, Container> {
    return this.#containers ??= this.#byId("listContainers", Container);
  }

  #byId<Entry extends { id: string }>(
    key: RpcKey,
    codec: MessageFns<Entry>,
  ): Map<string, Entry> {
    const entries = contentsOf(this.#lists.get(key)?.bytes ?? new Uint8Array(), 1)
      .map((bytes) => codec.decode(bytes));
    return new Map(entries.map((entry) => [entry.id, entry]));
  }

  /** Grows with each change of what `toJSON` gives. */
  get version(): number {
    return this.#version;
  }

  /** The lists that are worth keeping for another process, to be read again by `restore`. */
  toJSON(): Record<string, string> {
    const kept = [...this.#lists.keys()].filter((key) => SAVED.has(key));
    return Object.fromEntries(
      kept.map((key) => [key, this.answer(methodOf(key), new Uint8Array()).toBase64()]),
    );
  }

  /** Takes up what an earlier process knew. @throws {Error} when it is no such value. */
  restore(saved: Record<string, string>): void {
    for (const [key, text] of Object.entries(saved)) {
      const bytes = Uint8Array.fromBase64(text);
      if (!isMessage(bytes, 1)) throw new Error(`its ${key} is no list`);
      this.#lists.set(key as RpcKey, { bytes, askedAt: 0 });
    }
  }
}
