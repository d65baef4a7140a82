import type { Clock } from "../base/clock.ts";
import {
  type RuntimeCondition,
  type RuntimeHandler,
  type RuntimeHandlerFeatures,
  StatusRequest,
  StatusResponse,
} from "../cri/api.generated.ts";
import { type CallContext, methodOf } from "../cri/service.ts";
import { type Backend, impatient, type RemoteBackend } from "./backend.ts";
import type { Handlers } from "./handlers.ts";

/**
 * Status of the node. RuntimeReady and NetworkReady are ours alone, because a kubelet that sees one of them false
 * stops running pods in every runtime; those of the remote runtimes stand beside them as `RuntimeReady/<name>`.
 * What the handlers can is each runtime's own word, its last one while it is down; what the node can is the
 * default backend's. Costs no call to a remote runtime, unless it is verbose.
 */
export async function nodeStatus(
  request: Uint8Array,
  context: CallContext,
  own: Backend,
  remotes: readonly RemoteBackend[],
  handlers: Handlers,
  clock: Clock,
): Promise<Uint8Array> {
  const method = methodOf("status");
  const status = StatusResponse.decode(await own.cri.unary(method, request, context));
  const lastOf = (backend: Backend) => backend === own ? status : backend.remote?.lastStatus;
  const { verbose } = StatusRequest.decode(request);
  return StatusResponse.encode({
    ...status,
    status: {
      ...status.status,
      conditions: [...status.status?.conditions ?? [], ...remotes.flatMap(conditionsOf)],
    },
    runtimeHandlers: [...handlers.entries()].map((
      [name, { backend, handler }],
    ): RuntimeHandler => ({
      name,
      features: featuresOf(lastOf(backend), handler),
    })),
    features: lastOf(handlers.default)?.features,
    info: { ...status.info, ...verbose ? await verboseInfo() : {} },
  }).finish();

  async function verboseInfo(): Promise<Record<string, string>> {
    const parts = await Promise.all(remotes.map(async (backend) => {
      const { name, remote } = backend;
      const patience = impatient(context, backend, clock);
      const bytes = await remote.unary(method, request, patience).catch(() => {
        context.signal.throwIfAborted();
        return new Uint8Array();
      });
      return Object.entries(StatusResponse.decode(bytes).info)
        .map(([key, value]) => [`${name}/${key}`, value]);
    }));
    return Object.fromEntries(parts.flat());
  }
}

function conditionsOf({ name, remote }: RemoteBackend): RuntimeCondition[] {
  const { state, lastStatus } = remote;
  if (state.kind !== "up") {
    const message = "error" in state ? state.error : "it was not asked yet";
    return [{
      type: `RuntimeReady/${name}`,
      status: false,
      reason: "LastKnownStatesStand",
      message,
    }];
  }
  const conditions = lastStatus?.status?.conditions ?? [];
  return conditions.map((condition) => ({ ...condition, type: `${condition.type}/${name}` }));
}

function featuresOf(
  status: StatusResponse | undefined,
  handler: string,
): RuntimeHandlerFeatures | undefined {
  return status?.runtimeHandlers.find(({ name }) => name === handler)?.features;
}
