import type { Clock } from "../base/clock.ts";
import { CriError } from "../base/error.ts";
import { type CallContext, methodOf } from "../cri/service.ts";
import { contentsOf, field, stringAt } from "../cri/wire.ts";
import type { Store } from "../store/store.ts";
import { type Backend, impatient, type RemoteBackend } from "./backend.ts";

/** Ids whose backend is remembered; a node runs some hundreds of containers. Each takes about 200 bytes. */
const MAX_REMEMBERED = 20_000;

/** What our own runtime knows by id, without a call. */
export interface OwnRecords {
  /** Ids of sandboxes that begin so. */
  sandboxes(prefix: string): string[];
  /** Ids of containers that begin so. */
  containers(prefix: string): string[];
  /** Whether there is a sandbox of the pod with this UID. */
  hasPod(uid: string): boolean;
}

/** The records of our own runtime. */
export function ownRecords({ sandboxes, containers }: Store): OwnRecords {
  type Records = Pick<Store["sandboxes"] | Store["containers"], "get" | "all">;
  const idsIn = (table: Records) => (prefix: string) =>
    table.get(prefix) !== undefined
      ? [prefix]
      : table.all().map(({ id }) => id).filter((id) => id.startsWith(prefix));
  return {
    sandboxes: idsIn(sandboxes),
    containers: idsIn(containers),
    hasPod: (uid) => sandboxes.all().some(({ config }) => config.metadata?.uid === uid),
  };
}

type Kind = "sandbox" | "container";

const LISTS = { sandbox: "listPodSandbox", container: "listContainers" } as const;

/**
 * Finds whose a sandbox or container is. Ids are each backend's own, never changed: what was seen once is
 * remembered, the rest is asked for.
 */
export class Owners {
  readonly #byId = new Map<string, Backend>();
  readonly #byPod = new Map<string, Backend>();

  constructor(
    private readonly own: Backend,
    private readonly records: OwnRecords,
    private readonly remotes: readonly RemoteBackend[],
    private readonly clock: Clock,
  ) {}

  /** Remembers whose an id is, also after its removal: a repeated call is that backend's to answer. */
  remember(id: string, backend: Backend): void {
    remember(this.#byId, id, backend);
  }

  /** Remembers where the sandboxes of a pod are. */
  rememberPod(uid: string, backend: Backend): void {
    remember(this.#byPod, uid, backend);
  }

  /** The backend that has a sandbox of the pod with this UID, as far as is known without a call. */
  ofPod(uid: string): Backend | undefined {
    if (uid === "") return undefined;
    if (this.records.hasPod(uid)) return this.own;
    return this.#byPod.get(uid) ??
      this.remotes.find(({ known }) =>
        [...known.sandboxes.values()].some(({ metadata }) => metadata?.uid === uid)
      );
  }

  /** The backend of an id, as far as is known without a call. */
  known(kind: Kind, id: string): Backend | undefined {
    const remembered = this.#byId.get(id);
    if (remembered !== undefined) return remembered;
    const own = kind === "sandbox" ? this.records.sandboxes(id) : this.records.containers(id);
    const found = own.includes(id)
      ? this.own
      : this.remotes.find(({ known }) =>
        (kind === "sandbox" ? known.sandboxes : known.containers).has(id)
      );
    if (found !== undefined) this.remember(id, found);
    return found;
  }

  /**
   * The backend of an id or of the beginning of one. Of what nobody knows it is our own runtime, which answers
   * as api.proto asks.
   * @throws CriError INVALID_ARGUMENT when several ids begin so; UNAVAILABLE when a runtime that may know it does
   * not answer.
   */
  async of(kind: Kind, id: string, context: CallContext): Promise<Backend> {
    if (id === "") return this.own;
    const known = this.known(kind, id);
    if (known !== undefined) return known;
    const own = kind === "sandbox" ? this.records.sandboxes(id) : this.records.containers(id);
    const method = methodOf(LISTS[kind]);
    // A filter whose only field is the id.
    const request = field(1, field(1, new TextEncoder().encode(id)));
    const answers = await Promise.allSettled(
      this.remotes.map(async (backend) => {
        const patience = impatient(context, backend, this.clock);
        const list = await backend.cri.unary(method, request, patience);
        const listed = contentsOf(list, 1).map((entry) => stringAt(entry, [1]));
        // A runtime may find nothing by a beginning that several of its ids have.
        const known = (kind === "sandbox" ? backend.known.sandboxes : backend.known.containers)
          .keys();
        return [...new Set([...listed, ...known])].filter((found) => found.startsWith(id))
          .map((found) => ({ found, backend }));
      }),
    );
    context.signal.throwIfAborted();
    const matches: { found: string; backend: Backend }[] = own.map((found) => ({
      found,
      backend: this.own,
    }));
    for (const answer of answers) if (answer.status === "fulfilled") matches.push(...answer.value);
    const exact = matches.find(({ found }) => found === id);
    if (exact !== undefined) {
      this.remember(id, exact.backend);
      return exact.backend;
    }
    if (matches.length > 1) {
      throw new CriError(
        "INVALID_ARGUMENT",
        `Cannot find the ${kind} '${id}': ${matches.length} ids begin like that, give more of it.`,
      );
    }
    if (matches[0] !== undefined) return matches[0].backend;
    const silent = this.remotes.filter((_, index) => answers[index]?.status === "rejected");
    if (silent.length === 0) return this.own;
    throw new CriError(
      "UNAVAILABLE",
      `Cannot tell whose the ${kind} '${id}' is, as these runtimes must be asked and do not answer: ${
        silent.map(({ name }) => `'${name}'`).join(", ")
      }.`,
    );
  }
}

/** The oldest entries make room. */
function remember(map: Map<string, Backend>, key: string, backend: Backend): void {
  map.delete(key);
  map.set(key, backend);
  if (map.size <= MAX_REMEMBERED) return;
  const oldest = map.keys().next();
  if (!oldest.done) map.delete(oldest.value);
}
