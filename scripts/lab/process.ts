/** The outcome of a command that ran to its end; `code` is 128 + the signal's number when one killed it. */
export interface CommandResult {
  code: number;
  stdout: string;
  stderr: string;
}

/** How a command is run to its end. */
export interface RunOptions {
  /** Given to the command's standard input, which is /dev/null without it. */
  stdin?: string | Uint8Array;
  /** Added to this process's own environment, or all of it with `clearEnv`. */
  env?: Record<string, string>;
  clearEnv?: boolean;
  /** What errors call the command; its argv unless told. */
  title?: string;
  /** Milliseconds until the command and all that it started are killed. */
  timeoutMs?: number;
}

/** Enough for every quick command; what takes longer (downloads, builds) says so itself. */
export const DEFAULT_TIMEOUT_MS = 30_000;

/** The words before a command that let it die with the program that started it, however that ends. */
export const DIE_WITH_PARENT = ["setpriv", "--pdeathsig", "KILL", "--"];

/**
 * Runs `argv` to its end, whatever its exit code; 127 says that there is no such program. It is killed
 * when this program dies meanwhile.
 *
 * @throws {Error} when it did not end within `timeoutMs`; by then its whole process tree has been killed.
 */
export async function run(argv: string[], options: RunOptions = {}): Promise<CommandResult> {
  const { stdin, env = {}, clearEnv = false, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  const [program = "", ...args] = [...DIE_WITH_PARENT, ...argv];
  const child = new Deno.Command(program, {
    args,
    env,
    clearEnv,
    stdin: stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  let killed: Promise<void> | undefined;
  const kill = async () => {
    await killTree(child.pid);
    // A daemon that left the tree may hold the pipes open for ever.
    await Promise.all([stdout.cancel(), stderr.cancel()]);
  };
  const timer = setTimeout(() => killed = kill(), timeoutMs);
  try {
    const fed = stdin === undefined ? undefined : feed(child.stdin, stdin);
    const [status, out, err] = await Promise.all([child.status, stdout.text, stderr.text, fed]);
    if (killed !== undefined) {
      await killed;
      throw new Error(
        `"${options.title ?? argv.join(" ")}" did not end within ${
          timeoutMs / 1000
        } s and was killed; ` +
          `its last words were: ${lastWords(err || out)}`,
      );
    }
    return { code: status.code, stdout: out, stderr: err };
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Runs `argv` and returns its standard output.
 *
 * @throws {Error} as {@link run} does, and when the exit code is not 0.
 */
export async function runOk(argv: string[], options: RunOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await run(argv, options);
  if (code !== 0) {
    throw new Error(
      `"${options.title ?? argv.join(" ")}" failed with exit code ${code}: ${
        lastWords(stderr || stdout)
      }`,
    );
  }
  return stdout;
}

/** The end of a program's output, on one line, for an error message. */
export function lastWords(output: string): string {
  const MAX_LENGTH_CHARS = 600;
  const text = output.trim().replaceAll(/\s*\n\s*/g, "; ");
  return text === "" ? "(nothing)" : text.slice(-MAX_LENGTH_CHARS);
}

/** Reads a stream to its end as text; `cancel` ends it early with what has come so far. */
function collect(
  stream: ReadableStream<Uint8Array>,
): { text: Promise<string>; cancel: () => Promise<void> } {
  const reader = stream.getReader();
  const read = async () => {
    const decoder = new TextDecoder();
    let text = "";
    while (true) {
      const { done, value } = await reader.read();
      if (done) return text + decoder.decode();
      text += decoder.decode(value, { stream: true });
    }
  };
  return { text: read(), cancel: () => reader.cancel() };
}

/** Writes all of `data` and closes; a program may end without reading its input. */
async function feed(stream: WritableStream<Uint8Array>, data: string | Uint8Array): Promise<void> {
  const writer = stream.getWriter();
  try {
    await writer.write(typeof data === "string" ? new TextEncoder().encode(data) : data);
    await writer.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}

/** A process that cannot be confused with a later one of the same pid. */
export interface ProcessId {
  pid: number;
  /** Field 22 of proc_pid_stat(5): clock ticks from boot to the process's start. */
  startTicks: string;
}

/** What proc_pid_stat(5) says of a process: its identity and its one-letter state. */
export function parseStat(text: string): ProcessId & { state: string } {
  // The second field is the program's name in parentheses and may itself hold blanks and parentheses.
  const afterName = text.slice(text.lastIndexOf(")") + 2).trim().split(" ");
  const [state = ""] = afterName;
  return { pid: Number.parseInt(text), state, startTicks: afterName[19] ?? "" };
}

/** Reads a process's identity now; undefined when there is no such process or only its zombie is left. */
export async function identify(pid: number): Promise<ProcessId | undefined> {
  const text = await readIfThere(`/proc/${pid}/stat`);
  if (text === undefined) return undefined;
  const { state, startTicks } = parseStat(text);
  return state === "Z" || state === "X" ? undefined : { pid, startTicks };
}

/** Whether exactly this process still runs. */
export async function isAlive(id: ProcessId): Promise<boolean> {
  return (await identify(id.pid))?.startTicks === id.startTicks;
}

/**
 * A sh(1) script that becomes `command`, after it has written its own proc_pid_stat(5) line to `statPath`:
 * whatever the command makes, its process is on record before, and can be ended by a later program.
 */
export function recordedScript(statPath: string, command: string): string {
  return `read -r stat < /proc/$$/stat && printf '%s\\n' "$stat" > ${
    shellWord(statPath)
  } && ${command}`;
}

/** The process that a {@link recordedScript} put on record, if it still runs. */
export async function recordedProcess(statPath: string): Promise<ProcessId | undefined> {
  const stat = await readIfThere(statPath);
  if (stat === undefined || stat.trim() === "") return undefined;
  const recorded = parseStat(stat);
  return await isAlive(recorded) ? recorded : undefined;
}

/** The pids of a process's living children, as proc_tid_children(5) lists them. */
export async function childrenOf(pid: number): Promise<number[]> {
  const text = await readIfThere(`/proc/${pid}/task/${pid}/children`) ?? "";
  return text.trim().split(/\s+/).filter(Boolean).map(Number);
}

/** Sends SIGKILL to a process and all its descendants; those that are gone already do not matter. */
export async function killTree(pid: number): Promise<void> {
  // Stopped first, it starts no more children while they are listed.
  if (!signalIfThere(pid, "SIGSTOP")) return;
  const children = await childrenOf(pid);
  await Promise.all(children.map(killTree));
  signalIfThere(pid, "SIGKILL");
}

/** Sends a signal; returns false when there is no such process any more. */
export function signalIfThere(pid: number, signal: Deno.Signal): boolean {
  try {
    Deno.kill(pid, signal);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || isNoSuchProcess(error)) return false;
    throw error;
  }
}

function isNoSuchProcess(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ESRCH";
}

/** A file's text; undefined when there is none, or when its process ended while it was read. */
export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || isNoSuchProcess(error)) return undefined;
    throw error;
  }
}

/** `text` as one word of sh(1). */
export function shellWord(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
