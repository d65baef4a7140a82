import { dirname } from "@std/path";
import { remove } from "./files.ts";
import { runOk } from "./process.ts";
import type { HostShell } from "./shell.ts";

/** The parts of an OCI image configuration (image-spec, config.md) that the lab's images set. */
export interface ImageConfig {
  Env?: string[];
  Entrypoint?: string[];
  Cmd?: string[];
  WorkingDir?: string;
  User?: string;
}

/** An image made on the spot: busybox, files of its own, and a configuration. */
export interface LabImage {
  /** Repository and tag in the lab's registry. */
  name: string;
  /** Absolute path → content; all executable. */
  files: Record<string, string>;
  config: ImageConfig;
}

const PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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

/** What every image's root holds besides busybox's own commands. */
const COMMON_FILES: Record<string, string> = {
  "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
  "/etc/group": "root:x:0:\nnogroup:x:65534:\n",
};
const COMMON_FOLDERS = ["bin", "dev", "etc", "home", "mnt", "proc", "root", "sys", "tmp", "var"];

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
  for (const [index, image] of images.entries()) {
    const folder = `/tmp/image-${index}`;
    await writeLayout(image, busybox, registry.path(folder));
    await registry.runOk([
      ...["skopeo", "copy", "--quiet", "--dest-tls-verify=false"],
      ...[`oci:${folder}:image`, `docker://localhost:5000/${image.name}`],
    ]);
    await remove(registry.path(folder));
  }
}

/** Writes an image as an OCI layout (image-spec, image-layout.md) of one layer. */
async function writeLayout(image: LabImage, busybox: string, folder: string): Promise<void> {
  const root = `${folder}.root`;
  const tar = `${folder}.tar`;
  await makeImageRoot(image, busybox, root);
  await runOk([
    ...["tar", "--create", `--file=${tar}`, `--directory=${root}`],
    ...["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "."],
  ]);
  const layer = await Deno.readFile(tar);
  await remove(root);
  await remove(tar);

  await Deno.mkdir(`${folder}/blobs/sha256`, { recursive: true });
  const blob = async (mediaType: string, bytes: Uint8Array<ArrayBuffer>) => {
    const hash = await sha256(bytes);
    await Deno.writeFile(`${folder}/blobs/sha256/${hash}`, bytes);
    return { mediaType, digest: `sha256:${hash}`, size: bytes.length };
  };
  const vendor = "application/vnd.oci.image";
  const config = await blob(
    `${vendor}.config.v1+json`,
    json(imageConfig(image, await sha256(layer))),
  );
  const layers = [await blob(`${vendor}.layer.v1.tar+gzip`, await gzip(layer))];
  const manifestType = `${vendor}.manifest.v1+json`;
  const manifest = await blob(
    manifestType,
    json({ schemaVersion: 2, mediaType: manifestType, config, layers }),
  );
  const annotations = { "org.opencontainers.image.ref.name": "image" };
  const index = { schemaVersion: 2, manifests: [{ ...manifest, annotations }] };
  await Deno.writeFile(`${folder}/index.json`, json(index));
  await Deno.writeFile(`${folder}/oci-layout`, json({ imageLayoutVersion: "1.0.0" }));
}

/** The image configuration; its dates are fixed, so that the same recipe has the same digest. */
function imageConfig(image: LabImage, layerHash: string): Record<string, unknown> {
  const created = "2024-01-01T00:00:00Z";
  return {
    created,
    architecture: Deno.build.arch === "aarch64" ? "arm64" : "amd64",
    os: "linux",
    config: image.config,
    rootfs: { type: "layers", diff_ids: [`sha256:${layerHash}`] },
    history: [{ created }],
  };
}

async function makeImageRoot(image: LabImage, busybox: string, root: string): Promise<void> {
  for (const folder of COMMON_FOLDERS) await Deno.mkdir(`${root}/${folder}`, { recursive: true });
  await Deno.chmod(`${root}/tmp`, 0o1777);
  await Deno.copyFile(busybox, `${root}/bin/busybox`);
  await Deno.chmod(`${root}/bin/busybox`, 0o755);
  for (const applet of (await runOk([busybox, "--list"])).trim().split("\n")) {
    if (applet !== "busybox") await Deno.symlink("busybox", `${root}/bin/${applet}`);
  }
  const executable = Object.entries(image.files);
  for (const [path, content] of [...Object.entries(COMMON_FILES), ...executable]) {
    await Deno.mkdir(dirname(root + path), { recursive: true });
    await Deno.writeTextFile(root + path, content);
  }
  for (const [path] of executable) await Deno.chmod(root + path, 0o755);
}

function json(value: unknown): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(JSON.stringify(value));
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

async function gzip(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const packed = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(packed).arrayBuffer());
}
