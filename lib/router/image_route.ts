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

/** A call about an image, on its way to a backend. */
export interface ImageRoute {
  backend: Backend;
  request: Uint8Array;
}

/**
 * The backend of ImageStatus, PullImage or RemoveImage. In this order it is told by: the mark of an image id, the
 * prefix `multicri/`, the pod's annotation, the runtime handler, the pod's sandbox (known for PullImage only). The
 * rest is the default backend's, or of whichever backend has an image whose id begins so.
 * @throws CriError INVALID_ARGUMENT for an unknown handler.
 */
export async function routeImage(
  method: CriMethod,
  request: Uint8Array,
  context: CallContext,
  { backends, handlers, owners }: {
    backends: ReadonlyMap<string, Backend>;
    handlers: Handlers;
    owners: Owners;
  },
): Promise<ImageRoute> {
  const spec = contentsOf(request, 1).at(-1) ?? new Uint8Array();
  const name = stringAt(spec, [NAME]);
  const mark = markOf(name);
  if (mark !== undefined) {
    const backend = backends.get(mark);
    if (backend !== undefined) return { backend, request };
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot find the image '${name}': there is no runtime '${mark}' any more; pull it again.`,
    );
  }
  if (name.startsWith(`${OWN_NAME}/`)) {
    return { backend: handlers.target(OWN_NAME).backend, request };
  }
  const what = `the image '${name}'`;
  const annotation = annotationOf(spec);
  if (annotation !== undefined) return withHandler(handlers.target(annotation, what));
  const handler = stringAt(spec, [RUNTIME_HANDLER]);
  if (handler !== "") return withHandler(handlers.target(handler, what));
  const ofPod = method.key === "pullImage" ? owners.ofPod(stringAt(request, POD_UID)) : undefined;
  if (ofPod !== undefined) return { backend: ofPod, request };
  if (isShortId(name)) {
    const backend = await holderOf(name, [...backends.values()], context);
    if (backend !== undefined) return { backend, request };
  }
  return { backend: handlers.default, request };

  function withHandler(target: { backend: Backend; handler: string }): ImageRoute {
    // What the pod calls the handler is not what its backend calls it.
    const renamed = mapStrings(
      request,
      { 1: { [RUNTIME_HANDLER]: "string" } },
      () => target.handler,
    );
    return { backend: target.backend, request: renamed };
  }
}

function annotationOf(spec: Uint8Array): string | undefined {
  // A map's entries have the key in field 1 and the value in field 2.
  const entry = contentsOf(spec, ANNOTATIONS)
    .findLast((entry) => stringAt(entry, [1]) === HANDLER_ANNOTATION);
  return entry && stringAt(entry, [2]);
}

/** The first backend that has the image. */
async function holderOf(
  name: string,
  backends: readonly Backend[],
  context: CallContext,
): Promise<Backend | undefined> {
  const request = field(1, field(NAME, new TextEncoder().encode(name)));
  const found = await Promise.all(backends.map(async ({ cri }) => {
    const answer = await cri.unary(methodOf("imageStatus"), request, context)
      .catch(() => new Uint8Array());
    return ImageStatusResponse.decode(answer).image !== undefined;
  }));
  context.signal.throwIfAborted();
  return backends.find((_, index) => found[index]);
}
