/** What a kubelet writes for a pod, for tests that do without one. */
import { assertEquals } from "@std/assert";
import { dirname, join } from "@std/path";
import type { Lab } from "../../scripts/lab/lab.ts";

/** The kubelet's directory of a pod in the node. */
export class PodDirectory {
  readonly uid = crypto.randomUUID();
  readonly path = `/var/lib/kubelet/pods/${this.uid}`;

  constructor(readonly lab: Lab) {}

  /** Runs a script in it, as root in the node. */
  async run(script: string): Promise<string> {
    const { code, stdout, stderr } = await this.lab.exec("knode", [
      "sh",
      "-euc",
      `mkdir -p ${this.path}; cd ${this.path}\n${script}`,
    ]);
    if (code !== 0) throw new Error(`${script} failed in the node: ${stderr}`);
    return stdout;
  }

  /** Writes a version of a volume as the kubelet does, and returns its path. */
  async write(
    plugin: string,
    name: string,
    version: string,
    files: Readonly<Record<string, Uint8Array | string>>,
    mode = "0644",
  ): Promise<string> {
    const volume = `volumes/kubernetes.io~${plugin}/${name}`;
    for (const [file, content] of Object.entries(files)) {
      const path = this.lab.path("knode", join(this.path, volume, version, file));
      await Deno.mkdir(dirname(path), { recursive: true });
      const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
      await Deno.writeFile(path, bytes);
    }
    await this.run(`mkdir -p ${volume}/${version}; cd ${volume}
      find ${version} -type f -exec chmod ${mode} {} +
      for file in ${version}/*; do
        [ ! -e "$file" ] || ln -sfn ..data/"\${file##*/}" "\${file##*/}"
      done
      ln -s ${version} ..data_tmp
      mv -T ..data_tmp ..data
      for old in ..20*; do [ "$old" = ${version} ] || rm -r "$old"; done`);
    return join(this.path, volume);
  }

  async empty(name: string): Promise<string> {
    const path = `volumes/kubernetes.io~empty-dir/${name}`;
    await this.run(`mkdir -p -m 777 ${path}`);
    return join(this.path, path);
  }

  async remove(): Promise<void> {
    const { code } = await this.lab.exec("knode", ["rm", "-rf", this.path]);
    assertEquals(code, 0);
  }
}

/** A mount as crictl reads it. */
export interface CrictlMount {
  host_path: string;
  container_path: string;
  readonly: boolean;
}

/** A mount for crictl's file of a container. */
export function mount(hostPath: string, containerPath: string, readonly = false): CrictlMount {
  return { host_path: hostPath, container_path: containerPath, readonly };
}
