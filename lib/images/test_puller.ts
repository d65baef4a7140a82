/** A puller with other programs in place of skopeo and apptainer, for the tests of this directory. */
import type { Executor, RunOptions, RunResult } from "../executors/executor.ts";
import type { RegistryCredentials } from "./credentials.ts";
import { Puller } from "./puller.ts";
import type { RegistryAccess } from "./skopeo.ts";

export const IMAGE = { registry: "r.example:5000", repository: "team/app", tag: "1" };
export const DIGEST = `sha256:${"4".repeat(63)}a`;
export const AUTH = { auth: "c2VjcmV0" };
export const NEVER = new AbortController().signal;

/** With AUTH, unless something else is given, if only undefined. */
export function access(workDir: string, ...auth: [RegistryCredentials?]): RegistryAccess {
  return { auth: auth.length === 0 ? AUTH : auth[0], workDir, signal: NEVER };
}

/** One command. */
export interface Run {
  argv: readonly string[];
  env: Record<string, string>;
  /** The auth file as it was then. */
  auth: unknown;
  authMode: number | null | undefined;
}

/** What a command says. */
export type Program = (
  argv: readonly string[],
) => Promise<Partial<{ code: number; stdout: string; stderr: string }>>;

/** Runs `program` in place of skopeo and apptainer. */
export class TestExecutor implements Executor {
  readonly runs: Run[] = [];

  constructor(readonly program: Program) {}

  async run(argv: readonly [string, ...string[]], options: RunOptions = {}): Promise<RunResult> {
    const { env = {} } = options;
    const path = env["REGISTRY_AUTH_FILE"];
    this.runs.push({
      argv,
      env,
      auth: path === undefined ? undefined : JSON.parse(await Deno.readTextFile(path)),
      authMode: path === undefined ? undefined : (await Deno.stat(path)).mode,
    });
    const { code = 0, stdout = "", stderr = "" } = await this.program(argv);
    const encode = (text: string) => new TextEncoder().encode(text);
    return { code, stdout: encode(stdout), stderr: encode(stderr) };
  }
}

/** A test with an empty work directory. */
export async function withPuller(
  program: Program,
  use: (test: { puller: Puller; executor: TestExecutor; workDir: string }) => Promise<void>,
): Promise<void> {
  const workDir = await Deno.makeTempDir({ prefix: "pull-" });
  const executor = new TestExecutor(program);
  const tools = { apptainer: "apptainer", skopeo: "skopeo" };
  try {
    await use({ puller: new Puller(executor, tools), executor, workDir });
  } finally {
    await Deno.remove(workDir, { recursive: true });
  }
}

/** Names of what lies in a directory. */
export async function filesIn(directory: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(directory))).map(({ name }) => name);
}

/** As skopeo says why it ends. */
export function fatal(message: string): string {
  return `time="2026-01-02T03:04:05Z" level=debug msg="more"\n` +
    `time="2026-01-02T03:04:05Z" level=fatal msg=${JSON.stringify(message)}\n`;
}
