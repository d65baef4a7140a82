import { CriError } from "../base/error.ts";
import type { CallContext, CriBackend, CriMethod, RpcKey } from "../cri/service.ts";
import { mapStrings, type StringPaths } from "../cri/wire.ts";

/**
 * Image ids are digests, so two backends that hold one image would call it by one id, and nobody could say whose
 * is to be removed. Those of every backend but the default one are therefore marked with its name:
 * `sha256:<64 hex digits>@name`. Behind the colon they look as everywhere, and no table is needed to read them.
 */
/** Marked ids may be cut, as people type them. */
const MARKED = /^((?:sha256:)?[0-9a-f]{12,64})@([a-z0-9-]+)$/;
const ID = /^(?:sha256:)?[0-9a-f]{64}$/;

/** The backend's name that an image id is marked with. */
export function markOf(image: string): string | undefined {
  return MARKED.exec(image)?.[2];
}

/** Whether it is a whole image id without a mark. */
export function isImageId(image: string): boolean {
  return ID.test(image);
}

/** Whether it can be the beginning of an image id, as people type it (crictl shows 13 digits). */
export function isShortId(image: string): boolean {
  return /^(?:sha256:)?[0-9a-f]{12,63}$/.test(image);
}

const IMAGE_SPEC: StringPaths = { 1: "string", 20: "string" };
/** An image as a volume. */
const MOUNT: StringPaths = { 9: IMAGE_SPEC };
const CONTAINER: StringPaths = { 4: IMAGE_SPEC, 5: "string", 10: "string" };
const CONTAINER_STATUS: StringPaths = {
  8: IMAGE_SPEC,
  9: "string",
  14: MOUNT,
  17: "string",
};

/** Where image ids stand in requests. */
const REQUESTS: { [K in RpcKey]?: StringPaths } = {
  createContainer: { 2: { 2: IMAGE_SPEC, 7: MOUNT } },
  imageStatus: { 1: IMAGE_SPEC },
  pullImage: { 1: IMAGE_SPEC },
  removeImage: { 1: IMAGE_SPEC },
  listImages: { 1: { 1: IMAGE_SPEC } },
  streamImages: { 1: { 1: IMAGE_SPEC } },
};

/** Where they stand in answers. */
const ANSWERS: { [K in RpcKey]?: StringPaths } = {
  listImages: { 1: { 1: "string" } },
  streamImages: { 1: { 1: "string" } },
  imageStatus: { 1: { 1: "string" } },
  pullImage: { 1: "string" },
  listContainers: { 1: CONTAINER },
  streamContainers: { 1: CONTAINER },
  containerStatus: { 1: CONTAINER_STATUS },
  podSandboxStatus: { 3: CONTAINER_STATUS },
  getContainerEvents: { 5: CONTAINER_STATUS },
};

/** A backend whose image ids carry its name to whoever calls it, and not to itself. */
export class MarkedImages implements CriBackend {
  constructor(private readonly backend: CriBackend, private readonly name: string) {}

  async unary(method: CriMethod, request: Uint8Array, context: CallContext): Promise<Uint8Array> {
    const answer = await this.backend.unary(method, this.#unmark(method, request), context);
    return this.#mark(method, answer);
  }

  async *serverStream(
    method: CriMethod,
    request: Uint8Array,
    context: CallContext,
  ): AsyncGenerator<Uint8Array> {
    const answers = this.backend.serverStream(method, this.#unmark(method, request), context);
    for await (const answer of answers) yield this.#mark(method, answer);
  }

  #mark({ key, name }: CriMethod, answer: Uint8Array): Uint8Array {
    const paths = ANSWERS[key];
    if (paths === undefined) return answer;
    try {
      return mapStrings(answer, paths, (text) => isImageId(text) ? `${text}@${this.name}` : text);
    } catch (cause) {
      const message =
        `The runtime '${this.name}' does not answer: what came is no answer to ${name}.`;
      throw new CriError("UNAVAILABLE", message, { cause });
    }
  }

  #unmark({ key }: CriMethod, request: Uint8Array): Uint8Array {
    const paths = REQUESTS[key];
    if (paths === undefined) return request;
    const suffix = `@${this.name}`;
    return mapStrings(
      request,
      paths,
      (text) => markOf(text) === this.name ? text.slice(0, -suffix.length) : text,
    );
  }
}
