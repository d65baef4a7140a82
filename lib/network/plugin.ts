import { join } from "@std/path";
import { type CriCode, CriError, messageOf } from "../base/error.ts";
import type { Executor, RunResult } from "../executors/executor.ts";
import { isObject, type JsonObject } from "./json.ts";
import { runLocked } from "./locked_run.ts";

/** What a pod is to the plugins (SPEC.md, section 2): one interface of one network namespace. */
export interface Attachment {
  readonly containerId: string;
  /** Empty when the namespace is gone. */
  readonly netnsPath: string;
  readonly ifName: string;
  /** CNI_ARGS: `KEY=value;…`. */
  readonly args: string;
}

/** One run of a plugin. */
export interface PluginCall {
  readonly command: "ADD" | "CHECK" | "DEL" | "STATUS" | "GC" | "VERSION";
  /** The plugin's name, a file in the directory of plugins. */
  readonly type: string;
  /** Given on stdin. */
  readonly request: JsonObject;
  readonly attachment?: Attachment;
  readonly lockPath: string;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/** A plugin's answer has some KiB; nothing else bounds what it writes. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
/** How much of a plugin's words stands in a message. */
const MAX_QUOTED_CHARS = 1000;

/** Codes of plugins (SPEC.md, section 5) that a repetition does not help against; all others are UNAVAILABLE. */
const CODES: ReadonlyMap<unknown, CriCode> = new Map<unknown, CriCode>([
  // The plugin does not speak the configuration's version.
  [1, "UNIMPLEMENTED"],
  // A field of the configuration; the configuration.
  [2, "FAILED_PRECONDITION"],
  [7, "FAILED_PRECONDITION"],
  // The container is unknown: there is nothing to clean up.
  [3, "NOT_FOUND"],
]);

/** What is asked of a plugin and of no pod waits for nothing: what a dead server has asked may hang for ever. */
const QUESTIONS: ReadonlySet<PluginCall["command"]> = new Set(["STATUS", "GC", "VERSION"]);

/** The CNI plugins of this node, which are programs. */
export class Plugins {
  constructor(readonly executor: Executor, readonly directory: string) {}

  /** @throws CriError FAILED_PRECONDITION when there is no such plugin. */
  async require(type: string): Promise<string> {
    const path = join(this.directory, type);
    const info = await Deno.stat(path).catch(() => undefined);
    if (info?.isFile) return path;
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot find the network plugin '${type}' as there must be a program ${path}: install it, or name the ` +
        "directory of plugins by --network-bin-dir.",
    );
  }

  /**
   * Runs a plugin to its end and returns what it wrote to stdout.
   * @throws CriError with the plugin's own code and message: UNIMPLEMENTED for its code 1, NOT_FOUND for 3,
   * FAILED_PRECONDITION for 2 and 7 and when there is no such plugin, else UNAVAILABLE; DEADLINE_EXCEEDED, CANCELLED,
   * RESOURCE_EXHAUSTED when it was killed.
   */
  async run(call: PluginCall): Promise<string> {
    const path = await this.require(call.type);
    const { attachment, signal } = call;
    let result: RunResult;
    try {
      result = await runLocked(this.executor, call.lockPath, [path], {
        stdin: new TextEncoder().encode(JSON.stringify(call.request)),
        env: {
          CNI_COMMAND: call.command,
          CNI_PATH: this.directory,
          ...(attachment === undefined ? {} : {
            CNI_CONTAINERID: attachment.containerId,
            CNI_NETNS: attachment.netnsPath,
            CNI_IFNAME: attachment.ifName,
            CNI_ARGS: attachment.args,
          }),
        },
        timeoutMs: call.timeoutMs,
        maxOutputBytes: MAX_ANSWER_BYTES,
        ...(signal === undefined ? {} : { signal }),
      }, QUESTIONS.has(call.command));
    } catch (error) {
      throw notEnded(call, CriError.from(error));
    }
    const stdout = new TextDecoder().decode(result.stdout);
    if (result.code === 0) return stdout;
    throw refused(call, result.code, stdout, new TextDecoder().decode(result.stderr));
  }
}

/** The error of a plugin that was killed, or could not be run. */
function notEnded({ type, command, timeoutMs, signal }: PluginCall, cause: CriError): CriError {
  const why: Partial<Record<CriCode, string>> = {
    DEADLINE_EXCEEDED: `did not end within ${
      timeoutMs / 1000
    } s of ${command} and was killed; look what it waits for.`,
    CANCELLED: `had not ended ${command} when the call did (${
      messageOf(signal?.reason)
    }), and was killed.`,
    RESOURCE_EXHAUSTED: `wrote more than ${
      MAX_ANSWER_BYTES / 2 ** 20
    } MiB at ${command} and was killed: an answer has some KiB.`,
  };
  const words = why[cause.code];
  if (words === undefined) return cause;
  return new CriError(cause.code, `The network plugin ${type} ${words}`, { cause });
}

/** The error that a plugin ended with, in its own words (SPEC.md, section 5, Error). */
function refused(call: PluginCall, exitCode: number, stdout: string, stderr: string): CriError {
  const what = `The network plugin ${call.type} failed at ${call.command}`;
  const words = (text: string) => messageOf(text).slice(0, MAX_QUOTED_CHARS);
  let json: unknown;
  try {
    json = JSON.parse(stdout);
  } catch (error) {
    const said = stdout.trim() === ""
      ? (stderr.trim() === "" ? "it said nothing" : words(stderr))
      : `${messageOf(error)} in what should be its error: ${JSON.stringify(words(stdout))}`;
    return new CriError("UNAVAILABLE", `${what} with exit code ${exitCode}: ${said}`);
  }
  const { code, msg, details } = isObject(json) ? json : {};
  const said = [msg, details].filter((text) => typeof text === "string" && text !== "").join("; ");
  return new CriError(
    CODES.get(code) ?? "UNAVAILABLE",
    `${what} with code ${code ?? "none"}: ${said === "" ? "it gave no message" : words(said)}`,
  );
}
