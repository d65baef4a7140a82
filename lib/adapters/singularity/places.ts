import { join } from "@std/path";

/** Of a pod or a container, as `lib/runtime` makes it; what else is called is not ours. */
export const WORKLOAD_ID = /^[0-9a-f]{64}$/;

/** Where the files of one container lie. */
export interface ContainerPlace {
  /** config.json, and what crun leaves; on /run, because it holds the environment. */
  bundle: string;
  /** Its writable layer and its root; on the disk. */
  layer: string;
  /** What the paths of its output and its end begin with; see supervise.pl. */
  files: string;
  /** The pipe for its input. It must not lie beside the output: Deno's watch of a folder stops at a pipe in it. */
  input: string;
}

/** Where the files of pods, containers and images of this node lie. */
export class Places {
  constructor(private readonly rootDir: string, private readonly stateDir: string) {}

  /** Folders that hold one entry a pod, container or image. */
  get folders(): { pods: string; bundles: string; layers: string; files: string; images: string } {
    return {
      pods: join(this.stateDir, "pods"),
      bundles: join(this.stateDir, "containers"),
      layers: join(this.rootDir, "containers"),
      files: join(this.rootDir, "output"),
      images: join(this.rootDir, "images"),
    };
  }

  pod(id: string): string {
    return join(this.folders.pods, id);
  }

  container(id: string): ContainerPlace {
    const { bundles, layers, files } = this.folders;
    const bundle = join(bundles, id);
    return {
      bundle,
      layer: join(layers, id),
      files: join(files, id),
      input: join(bundle, "input"),
    };
  }

  /** @param imageId `sha256:…` */
  image(imageId: string): string {
    return join(this.folders.images, imageId.replace(/^sha256:/, ""));
  }
}
