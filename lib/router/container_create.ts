import { CriError } from "../base/error.ts";
import { ImageStatusResponse } from "../cri/api.generated.ts";
import { type CallContext, methodOf } from "../cri/service.ts";
import { field, mapStrings, stringAt } from "../cri/wire.ts";
import type { Backend } from "./backend.ts";
import { isImageId, markOf } from "./image_ids.ts";
import { HANDLER_ANNOTATION } from "./image_route.ts";

/** The image's id or name, and the name in the pod's specification, in CreateContainerRequest. */
const IMAGE = [2, 2, 1];
const USER_SPECIFIED_IMAGE = [2, 2, 18];

/**
 * CreateContainer at a backend. A client that did not say whose image it meant may have got the id that another
 * backend has for it (the kubelet's ImageStatus names no pod); then the backend's own image of that name is used.
 * @throws CriError FAILED_PRECONDITION when it has none, and whatever the backend answers.
 */
export async function createContainer(
  backend: Backend,
  defaultBackend: Backend,
  request: Uint8Array,
  context: CallContext,
): Promise<Uint8Array> {
  const image = stringAt(request, IMAGE);
  const holder = markOf(image) ?? (isImageId(image) ? defaultBackend.name : backend.name);
  const method = methodOf("createContainer");
  if (holder === backend.name) return await backend.cri.unary(method, request, context);

  const name = stringAt(request, USER_SPECIFIED_IMAGE);
  if (name === "" || !await hasImage(backend, name, context)) {
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot create the container: its image ${
        name || image
      } is in the runtime '${holder}', and its pod runs ` +
        `in '${backend.name}'. Annotate the pod with ${HANDLER_ANNOTATION}: <its runtime handler>, so that the ` +
        "image is pulled there.",
    );
  }
  const named = mapStrings(request, { 2: { 2: { 1: "string" } } }, () => name);
  return await backend.cri.unary(method, named, context);
}

async function hasImage(backend: Backend, name: string, context: CallContext): Promise<boolean> {
  const request = field(1, field(1, new TextEncoder().encode(name)));
  const answer = await backend.cri.unary(methodOf("imageStatus"), request, context);
  return ImageStatusResponse.decode(answer).image !== undefined;
}
