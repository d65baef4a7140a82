import { CriError } from "../base/error.ts";
import type { AttachRequest, ExecRequest, PortForwardRequest } from "../cri/api.generated.ts";
import { namingFullDisk } from "../config/full_disk.ts";
import type { StreamsWanted } from "../streaming/process.ts";
import { requireRunning } from "./container_exec.ts";
import { requireById } from "./lookup.ts";
import type { Runtime } from "./runtime.ts";

/**
 * Exec: prepares a command in a running container and answers with the URL at which its client gets its streams.
 * @throws CriError as `Adapter.openExec`; INVALID_ARGUMENT for streams that do not go together.
 */
export async function exec(
  runtime: Runtime,
  request: ExecRequest,
  signal: AbortSignal,
): Promise<string> {
  const purpose = "run a command";
  const id = requireRunning(runtime, request.containerId, purpose);
  if (request.cmd.length === 0 || request.cmd[0] === "") {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot run a command in the container ${id}: the command is empty.`,
    );
  }
  const wanted = streamsOf(request, id, purpose);
  const run = await runtime.adapter.openExec(id, request.cmd, wanted.tty, signal);
  return runtime.streams.execUrl(wanted, (streams, gone) =>
    run(streams, gone).catch((error) => {
      throw namingFullDisk(error, runtime.config);
    }));
}

/** Attach: as Exec, for the container's own program. @throws CriError as Exec. */
export async function attach(
  runtime: Runtime,
  request: AttachRequest,
  signal: AbortSignal,
): Promise<string> {
  const purpose = "attach to the program";
  const id = requireRunning(runtime, request.containerId, purpose);
  const wanted = streamsOf(request, id, purpose);
  return runtime.streams.attachUrl(wanted, await runtime.adapter.openAttach(id, wanted, signal));
}

/** PortForward: answers with the URL at which its client reaches ports of the pod. @throws CriError as Exec. */
export async function portForward(
  runtime: Runtime,
  { podSandboxId }: PortForwardRequest,
  signal: AbortSignal,
): Promise<string> {
  const { id, state } = requireById(runtime.store.sandboxes, "sandbox", podSandboxId);
  const containers = runtime.store.containers.all().filter((container) =>
    container.sandboxId === id &&
    (container.state.phase === "running" || container.state.phase === "starting")
  );
  if (state !== "ready" || containers.length === 0) {
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot connect to a port of the sandbox ${id}: one of its containers must be running.`,
    );
  }
  const ids = containers.map((container) => container.id);
  return runtime.streams.portForwardUrl(await runtime.adapter.openPortForward(ids, signal));
}

/** @throws CriError INVALID_ARGUMENT for what api.proto rules out. */
function streamsOf(
  { stdin, stdout, stderr, tty }: StreamsWanted,
  id: string,
  purpose: string,
): StreamsWanted {
  const why = !stdin && !stdout && !stderr
    ? "one of stdin, stdout and stderr must be asked for"
    : tty && stderr
    ? "a terminal has no stderr of its own, so it must not be asked for"
    : undefined;
  if (why === undefined) return { stdin, stdout, stderr, tty };
  throw new CriError("INVALID_ARGUMENT", `Cannot ${purpose} in the container ${id}: ${why}.`);
}
