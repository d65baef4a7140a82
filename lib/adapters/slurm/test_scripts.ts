/** Runs the scripts of the login host on a test cluster, in every shell of this machine that may be /bin/sh. */
import { dirname, join } from "@std/path";
import { pack } from "tar-stream";
import type { RunResult } from "../../executors/executor.ts";
import { findJobScript, settleScript, submitScript } from "./cluster_scripts.ts";
import { TestCluster } from "./test_cluster.ts";

const SHELLS: readonly [string, ...string[]][] = [
  ["/bin/sh"],
  ["/usr/bin/dash"],
  ["/usr/bin/bash", "--posix"],
  ["/usr/bin/busybox", "sh"],
];

/** Quotes, spaces and whatever else a path may hold. */
export const DIRECTORY = `a 'b' "c" $(touch x) \\ *?/s1/c1`;
export const JOB_NAME = "multicri-c'1";

export const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** A tar archive of files for the owner only. */
export async function archive(files: Record<string, string>): Promise<Uint8Array> {
  const tar = pack();
  for (const [name, content] of Object.entries(files)) tar.entry({ name, mode: 0o600 }, content);
  tar.finalize();
  const chunks: BlobPart[] = [];
  for await (const chunk of tar) chunks.push(chunk as Uint8Array<ArrayBuffer>);
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

/** A container's directory on a test cluster. */
export class ScriptPlace {
  readonly directory: string;

  constructor(readonly cluster: TestCluster) {
    this.directory = join(cluster.home, DIRECTORY);
  }

  async submit(environment: { name: string; value: string }[] = []): Promise<RunResult> {
    const stdin = await archive({
      "job.sh": `#!/bin/bash\n#SBATCH --job-name="${JOB_NAME}"\n`,
      env: "export A=1\n",
    });
    const { directory } = this;
    return await this.cluster.run(
      submitScript({ directory, jobName: JOB_NAME, optionNames: [], environment }),
      {
        stdin,
      },
    );
  }

  async find(): Promise<RunResult> {
    return await this.cluster.run(findJobScript(this.directory, JOB_NAME));
  }

  async settle(): Promise<RunResult> {
    return await this.cluster.run(settleScript(this.directory, JOB_NAME));
  }

  async write(name: string, content: string): Promise<void> {
    await Deno.mkdir(dirname(join(this.directory, name)), { recursive: true });
    await Deno.writeTextFile(join(this.directory, name), content);
  }

  /** Names in the container's directory; undefined when it is gone. */
  names(): string[] | undefined {
    return namesIn(this.directory);
  }
}

/** Names in a directory, sorted; undefined when it is gone. */
export function namesIn(directory: string): string[] | undefined {
  try {
    return [...Deno.readDirSync(directory)].map(({ name }) => name).toSorted();
  } catch {
    return undefined;
  }
}

/** Registers each case for each shell. */
export function testInShells(cases: Record<string, (place: ScriptPlace) => Promise<void>>): void {
  for (const shell of SHELLS) {
    const missing = !exists(shell[0]);
    for (const [name, run] of Object.entries(cases)) {
      Deno.test({
        name: `${name} (${shell.join(" ")})`,
        ignore: missing,
        fn: async () => {
          await using cluster = await TestCluster.create(shell);
          await run(new ScriptPlace(cluster));
        },
      });
    }
  }
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}
