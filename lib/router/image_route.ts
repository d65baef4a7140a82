import { CriError } from "../base/error.ts";
import { ImageStatusResponse } from "../cri/api.generated.ts";
import { OWN_NAME } from "../config/remotes.ts";
import { type CallContext, type CriMethod, methodOf } from "../cri/service.ts";
import { contentsOf, field, mapStrings, stringAt } from "../cri/wire.ts";
import type { Backend } from "./backend.ts";
import type { Handlers } from "./handlers.ts";
import { isShortId, markOf } from "./image_ids.ts";
import type { Owners } from "./owners.ts";

/**
 * An annotation of a pod that names the RuntimeClass handler its images are for. The kubelet passes a pod's
 * annotations with every image call (kuberuntime_image.go), but its RuntimeClass only behind a feature gate.
 */
export const HANDLER_ANNOTATION = "multicri.io/runtime-handler";

/** Field numbers of ImageSpec, and of PullImageRequest's path to the pod's UID. */
const NAME = 1;
const ANNOTATIONS = 2;
const RUNTIME_HANDLER = 19;
const POD_UID = [3, 1, 2];

/** Names whose backend is remembered: many more than a node has images. */
const MAX_NAMES = 1_000;

/** A call about an image, on its way to a backend. */
export interface ImageRoute {
  backend: Backend;
  request: Uint8Array;
}

/** Finds the backend of ImageStatus, PullImage and RemoveImage. */
export class ImageRoutes {
  /** Who was last asked for an image by a pod, by its name. */
  readonly #askedByPod = new Map<string, Backend>();

  constructor(
    private readonly backends: ReadonlyMap<string, Backend>,
    private readonly handlers: Handlers,
    private readonly owners: Owners,
  ) {}

  /**
   * In this order the backend is told by: the mark of an image id, the prefix `multicri/`, the pod's annotation, the
   * runtime handler, the pod's sandbox (known for PullImage only). The rest is the default backend's.
   *
   * A kubelet asks once more for the image's user when it creates a container, by the name alone
   * (kuberuntime_container.go, getImageUser), and runs the container as root when it gets none. Nothing but that, and
   * people, asks without annotations: kubelets put one on every pod. So then the backend counts that a pod was last
   * told of that name, else the first that has it.
   * @throws CriError INVALID_ARGUMENT for an unknown handler.
   */
  async route(method: CriMethod, request: Uint8Array, context: CallContext): Promise<ImageRoute> {
    const spec = contentsOf(request, 1).at(-1) ?? new Uint8Array();
    const name = stringAt(spec, [NAME]);
    const mark = markOf(name);
    if (mark !== undefined) {
      // The default backend's ids have no mark, but people may say whose they mean.
      const unmarked = name.slice(0, -`@${mark}`.length);
      return {
        backend: this.#marked(mark, name),
        request: mapStrings(request, { 1: { [NAME]: "string" } }, () => unmarked),
      };
    }
    if (name.startsWith(`${OWN_NAME}/`)) {
      return { backend: this.handlers.target(OWN_NAME).backend, request };
    }
    const handler = annotationOf(spec) ?? stringAt(spec, [RUNTIME_HANDLER]);
    if (handler !== "") {
      const target = this.handlers.target(handler, `the image '${name}'`);
      this.#remember(name, target.backend);
      // What the pod calls the handler is not what its backend calls it.
      const paths = { 1: { [RUNTIME_HANDLER]: "string" } } as const;
      return { backend: target.backend, request: mapStrings(request, paths, () => target.handler) };
    }
    const pod = method.key === "pullImage" ? stringAt(request, POD_UID) : "";
    const byPod = pod !== "" || contentsOf(spec, ANNOTATIONS).length > 0;
    if (byPod) {
      const backend = this.owners.ofPod(pod) ?? this.handlers.default;
      this.#remember(name, backend);
      return { backend, request };
    }
    const remembered = method.key === "imageStatus" ? this.#askedByPod.get(name) : undefined;
    if (remembered !== undefined) return { backend: remembered, request };
    const isSearched = method.key === "imageStatus" || isShortId(name);
    const holders = isSearched ? await this.#holdersOf(name, context) : [];
    if (method.key === "removeImage" && holders.length > 1) {
      throw new CriError(
        "INVALID_ARGUMENT",
        `Cannot remove the image '${name}': ${holders.length} runtimes have one whose id begins so; say which by ${
          holders.map((holder) => `${name}@${holder.name}`).join(" or ")
        }.`,
      );
    }
    return { backend: holders[0] ?? this.handlers.default, request };
  }

  #marked(mark: string, name: string): Backend {
    const backend = this.backends.get(mark);
    if (backend !== undefined) return backend;
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot find the image '${name}': there is no runtime '${mark}' any more; pull it again.`,
    );
  }

  #remember(name: string, backend: Backend): void {
    this.#askedByPod.delete(name);
    this.#askedByPod.set(name, backend);
    const [oldest] = this.#askedByPod.keys();
    if (this.#askedByPod.size > MAX_NAMES && oldest !== undefined) this.#askedByPod.delete(oldest);
  }

  /** The backends that have the image, the default one first; one that does not answer is passed over. */
  async #holdersOf(name: string, context: CallContext): Promise<Backend[]> {
    const request = field(1, field(NAME, new TextEncoder().encode(name)));
    const backends = [...this.backends.values()];
    const found = await Promise.all(backends.map(async ({ cri }) => {
      const answer = await cri.unary(methodOf("imageStatus"), request, context)
        .catch(() => new Uint8Array());
      return ImageStatusResponse.decode(answer).image !== undefined;
    }));
    context.signal.throwIfAborted();
    return backends.filter((_, index) => found[index]);
  }
}

/** The handler that the pod's annotation names. */
function annotationOf(spec: Uint8Array): string | undefined {
  // A map's entries have the key in field 1 and the value in field 2.
  const entry = contentsOf(spec, ANNOTATIONS)
    .findLast((entry) => stringAt(entry, [1]) === HANDLER_ANNOTATION);
  return entry && stringAt(entry, [2]);
}
