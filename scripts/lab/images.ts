import { dirname } from "@std/path";
import { remove } from "./files.ts";
import {
  type ImageConfig,
  type Layer,
  type LayerEntry,
  type LayoutImage,
  packLayer,
  writeLayout,
} from "./oci_layout.ts";
import { runOk } from "./process.ts";
import type { HostShell } from "./shell.ts";

/** An image made on the spot: busybox, files of its own, and a configuration. */
export interface LabImage {
  /** Repository and tag in the lab's registry. */
  name: string;
  /** Absolute path → content; all executable. */
  files: Record<string, string>;
  config: ImageConfig;
}

/** The search path of every image, as Docker sets it. */
export const PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Prints what a container was started with, one `name=value` line each. */
const SHOW_SCRIPT = `#!/bin/sh
i=0
for argument in "$@"; do i=$((i + 1)); echo "arg$i=$argument"; done
echo "GREETING=$GREETING"
echo "pwd=$(pwd)"
echo "uid=$(id -u)"
`;

/** The images that every lab's registry holds. */
export const LAB_IMAGES = {
  /** Plain busybox with a shell as its command. */
  busybox: { name: "lab/busybox:1", files: {}, config: { Env: [PATH], Cmd: ["sh"] } },
  /** The same under the name that Docker Hub has it by, so that manifests for the real world run here. */
  library: { name: "library/busybox:latest", files: {}, config: { Env: [PATH], Cmd: ["sh"] } },
  /** An image that sets everything; its program prints its arguments, GREETING, pwd and uid. */
  entry: {
    name: "lab/entry:1",
    files: { "/bin/show": SHOW_SCRIPT, "/srv/work/README": "The image's working folder.\n" },
    config: {
      Env: [PATH, 'GREETING=hello from the image\'s "$ENV"'],
      Entrypoint: ["/bin/show", "from entrypoint"],
      Cmd: ["from cmd", "$HOME"],
      WorkingDir: "/srv/work",
      User: "1234:2345",
    },
  },
} as const satisfies Record<string, LabImage>;

const USERS = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUPS = "root:x:0:\nnogroup:x:65534:\n";
const FOLDERS = ["bin", "dev", "etc", "home", "mnt", "proc", "root", "sys", "var"];

/**
 * Makes the images and pushes them to the registry on `registry`.
 *
 * @param busybox path on the machine of a static busybox.
 */
export async function pushImages(
  images: LabImage[],
  busybox: string,
  registry: HostShell,
): Promise<void> {
  const base = await busyboxLayer(busybox, { users: USERS, groups: GROUPS, appletType: "symlink" });
  const layout = await Promise.all(images.map(async ({ name, files, config }) => {
    const own = Object.keys(files).length === 0 ? [] : [await packLayer(executables(files))];
    return { name, layers: [base, ...own], config };
  }));
  const folder = "/tmp/images";
  await writeLayout(registry.path(folder), layout);
  await pushLayout(
    layout,
    folder,
    (argv) => registry.runOk(argv),
  );
  await remove(registry.path(folder));
}

/** Pushes a layout's images by skopeo, which `runInRegistry` runs on the registry's host. */
export async function pushLayout(
  images: readonly Pick<LayoutImage, "name">[],
  folder: string,
  runInRegistry: (argv: string[]) => Promise<unknown>,
): Promise<void> {
  for (const { name } of images) {
    await runInRegistry([
      ...["skopeo", "copy", "--quiet", "--dest-tls-verify=false"],
      ...[`oci:${folder}:${name}`, `docker://localhost:5000/${name}`],
    ]);
  }
}

/** A root of busybox with all its applets, the usual folders and the users named. */
export async function busyboxLayer(
  busybox: string,
  { users, groups, appletType }: {
    /** passwd(5) and group(5). */
    users: string;
    groups: string;
    appletType: "symlink" | "link";
  },
): Promise<Layer> {
  const applets = (await runOk([busybox, "--list"])).trim().split("\n");
  const target = appletType === "link" ? "bin/busybox" : "busybox";
  return await packLayer([
    ...FOLDERS.map((path) => ({ path, mode: 0o755, type: "directory" as const })),
    { path: "tmp", mode: 0o1777, type: "directory" },
    { path: "bin/busybox", mode: 0o755, type: "file", content: await Deno.readFile(busybox) },
    ...applets.filter((applet) => applet !== "busybox")
      .map((applet) => ({ path: `bin/${applet}`, type: appletType, target })),
    { path: "etc/passwd", mode: 0o644, type: "file", content: users },
    { path: "etc/group", mode: 0o644, type: "file", content: groups },
  ]);
}

/** Files and the folders above them. */
function executables(files: Record<string, string>): LayerEntry[] {
  const folders = new Set<string>();
  for (const path of Object.keys(files)) {
    for (let above = dirname(path); above !== "/"; above = dirname(above)) folders.add(above);
  }
  return [
    ...[...folders].sort().map((path) => ({ path, mode: 0o755, type: "directory" as const })),
    ...Object.entries(files)
      .map(([path, content]) => ({ path, mode: 0o755, type: "file" as const, content })),
  ];
}
