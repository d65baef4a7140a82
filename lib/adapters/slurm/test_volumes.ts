/** A kubelet's directory of one pod, written as its AtomicWriter writes. */
import { dirname, join } from "@std/path";

export class TestVolumes implements AsyncDisposable {
  #versions = 0;

  private constructor(readonly root: string) {}

  /** @param root The kubelet's root; a new one unless given. */
  static async create(root?: string): Promise<TestVolumes> {
    const volumes = new TestVolumes(root ?? await Deno.makeTempDir({ prefix: "kubelet-" }));
    await Deno.mkdir(volumes.pod, { recursive: true });
    return volumes;
  }

  /** The pod's directory; its uid is "u". */
  get pod(): string {
    return join(this.root, "pods/u");
  }

  /** Writes a volume, or another version of it, and returns its path. */
  async write(
    plugin: "configmap" | "secret" | "projected" | "downward-api",
    name: string,
    files: Readonly<Record<string, string>>,
    mode = 0o644,
  ): Promise<string> {
    const path = join(this.pod, "volumes", `kubernetes.io~${plugin}`, name);
    const version = `..2026_${++this.#versions}`;
    await Deno.mkdir(join(path, version), { recursive: true });
    for (const [file, text] of Object.entries(files)) {
      const place = join(path, version, file);
      await Deno.mkdir(dirname(place), { recursive: true });
      await Deno.writeTextFile(place, text);
      await Deno.chmod(place, mode);
      const top = file.split("/")[0] ?? "";
      await Deno.symlink(`..data/${top}`, join(path, top)).catch(() => {});
    }
    const old = await Deno.readLink(join(path, "..data")).catch(() => undefined);
    await Deno.symlink(version, join(path, "..data_tmp"));
    await Deno.rename(join(path, "..data_tmp"), join(path, "..data"));
    if (old !== undefined) await Deno.remove(join(path, old), { recursive: true });
    for await (const entry of Deno.readDir(path)) {
      const isKept = entry.name.startsWith("..") ||
        Object.keys(files).some((file) => file.split("/")[0] === entry.name);
      if (!isKept) await Deno.remove(join(path, entry.name));
    }
    return path;
  }

  /** Makes an emptyDir and returns its path. */
  async empty(name: string): Promise<string> {
    const path = join(this.pod, "volumes/kubernetes.io~empty-dir", name);
    await Deno.mkdir(path, { recursive: true });
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.root, { recursive: true });
  }
}
