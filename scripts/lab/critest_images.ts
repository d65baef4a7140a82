import { fromFileUrl } from "@std/path";
import { COMPILER, ensureBusybox } from "./busybox.ts";
import { installPrerequisites } from "./debian.ts";
import { exists, remove } from "./files.ts";
import { busyboxLayer, PATH, pushLayout } from "./images.ts";
import type { Lab } from "./lab.ts";
import { withLock } from "./lock.ts";
import {
  type ImageConfig,
  type Layer,
  type LayoutImage,
  packLayer,
  writeLayout,
} from "./oci_layout.ts";
import { runOk } from "./process.ts";
import { type Progress, step } from "./progress.ts";

/** Raised when the same images are to be made in another way. */
const REVISION = 1;

/** passwd(5) and group(5) of the images, with the users that critest asks for by name. */
const USERS = [
  "root:x:0:0:root:/root:/bin/sh",
  "www-data:x:33:33:www-data:/var/www:/bin/false",
  "nobody:x:65534:65534:nobody:/:/bin/false",
  "",
].join("\n");
const GROUPS = ["root:x:0:", "www-data:x:33:", "users:x:100:", "nogroup:x:65534:", ""].join("\n");
/** What its image of a predefined group holds besides. */
const MORE_USERS = "default-user:x:1000:1000::/home:/bin/sh\n";
const MORE_GROUPS = "default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n";

/**
 * A web server under another's name: `nginx PORT`. It keeps its pid where nginx does and says its name
 * in its log. As its first process it must trap SIGTERM to end by it.
 */
const WEB_SERVER = `#!/bin/sh
trap 'exit 0' TERM QUIT INT
echo $$ > /var/run/nginx.pid
echo "$(basename "$0") listens on port $1"
busybox httpd -f -vv -p "$1" -h /www &
wait
`;

/** What the layers of the images are made from. */
interface Layers {
  busybox: Layer;
  withGroup: Layer;
  pause: Layer;
  effectiveUid: Layer;
  web: Layer;
}

/** Where cri-tools keeps its own images; the name of one of them ends in the architecture (GOARCH). */
const STAGING = "k8s-staging-cri-tools";
const ARCHITECTURE = Deno.build.arch === "aarch64" ? "arm64" : "amd64";

/**
 * Stand-ins for the images that critest names, in the lab's registry by their repositories' names. One is
 * missing, `test-image-digest`, whose digest critest knows: only the original has that.
 */
async function critestImages(layers: Layers): Promise<LayoutImage[]> {
  const { busybox } = layers;
  const shell = (extra: ImageConfig = {}): ImageConfig => ({ Env: [PATH], Cmd: ["sh"], ...extra });
  const image = (name: string, layers: Layer[], config: ImageConfig): LayoutImage => ({
    name,
    layers,
    config,
  });
  const marked = async (repository: string, mark: string) =>
    image(`${STAGING}/${repository}`, [
      busybox,
      await packLayer([{ path: "mark", mode: 0o644, type: "file", content: mark }]),
    ], shell());
  const web = (name: string, server: string, port: number) =>
    image(name, [busybox, layers.web], {
      Env: [PATH],
      // critest looks for these words on nginx's command line.
      Cmd: [`/usr/sbin/${server}`, String(port), "master process"],
    });
  const user = (name: string, User: string) =>
    image(`${STAGING}/test-image-${name}:latest`, [busybox], shell({ User, Labels: { name } }));
  const pause = (version: string) =>
    image(`pause:${version}`, [layers.pause], {
      Entrypoint: ["/pause"],
      User: "65535:65535",
      Labels: { version },
    });
  const tags = await Promise.all(
    ["1", "2", "3"].map((tag) => marked(`test-image-tags:${tag}`, "")),
  );
  return [
    image("e2e-test-images/busybox:1.29-2", [busybox], shell()),
    web("e2e-test-images/nginx:1.14-2", "nginx", 80),
    web("e2e-test-images/httpd:2.4.39-4", "httpd", 80),
    // Port 12003 is the one that critest asks on the host's network.
    web(`${STAGING}/hostnet-nginx-${ARCHITECTURE}:latest`, "nginx", 12003),
    image("e2e-test-images/nonewprivs:1.3", [busybox, layers.effectiveUid], {
      Env: [PATH],
      Cmd: ["/effective-uid"],
    }),
    pause("3.9"),
    pause("3.10"),
    user("user-uid", "1002"),
    user("user-username", "www-data"),
    user("user-uid-group", "1003:users"),
    user("user-username-group", "www-data:www-data"),
    image(`${STAGING}/test-image-predefined-group:latest`, [layers.withGroup], {
      ...shell(),
      User: "1000",
    }),
    await marked("test-image-latest:latest", "latest"),
    await marked("test-image-tag:test", "test"),
    await marked("test-image-tag:all", "all"),
    ...await Promise.all(["1", "2", "3"].map((n) => marked(`test-image-${n}:latest`, n))),
    ...tags,
  ];
}

/**
 * Makes critest's images, once and then from the cache, and pushes them to the lab's registry, unless
 * they are there. Every host finds them under their own names in registry.k8s.io, k8s.gcr.io and gcr.io.
 */
export async function pushCritestImages(lab: Lab, progress: Progress): Promise<void> {
  const pushed = lab.path("registry", `/var/lib/registry/critest-images-${REVISION}`);
  if (await exists(pushed)) return;
  const layout = await ensureLayout(lab.settings.cache, progress);
  await withLock(`${lab.settings.folder}.critest.lock`, progress, async () => {
    if (await exists(pushed)) return;
    await step(progress, "Pushing critest's images", () => push(lab, layout));
    await Deno.writeTextFile(pushed, "");
  });
}

async function push(lab: Lab, layout: string): Promise<void> {
  const folder = "/tmp/critest-images";
  const copy = lab.path("registry", folder);
  await remove(copy);
  await runOk(["cp", "-r", layout, copy]);
  const index: { manifests: { annotations: Record<string, string> }[] } = JSON.parse(
    await Deno.readTextFile(`${layout}/index.json`),
  );
  const images = index.manifests.map(({ annotations }) => ({
    name: String(annotations["org.opencontainers.image.ref.name"]),
  }));
  await pushLayout(images, folder, async (argv) => {
    const { code, stderr } = await lab.exec("registry", argv);
    if (code !== 0) throw new Error(`Cannot push an image of critest: ${stderr.trim()}`);
  });
  await remove(copy);
}

/** The folder of the OCI layout of all images. */
async function ensureLayout(cache: string, progress: Progress): Promise<string> {
  const layout = `${cache}/critest-images-${REVISION}`;
  if (await exists(layout)) return layout;
  const busybox = await ensureBusybox(cache, progress);
  return await withLock(`${layout}.lock`, progress, async () => {
    if (await exists(layout)) return layout;
    await installPrerequisites(progress, COMPILER);
    const partial = `${layout}.partial`;
    await remove(partial);
    await step(progress, "Making critest's images (once)", async () => {
      await writeLayout(partial, await critestImages(await makeLayers(busybox)));
    });
    await Deno.rename(partial, layout);
    return layout;
  });
}

async function makeLayers(busybox: string): Promise<Layers> {
  // Hard links, as in the originals.
  const base = { users: USERS, groups: GROUPS, appletType: "link" } as const;
  const program = (content: string | Uint8Array, path: string, mode = 0o755) =>
    ({ path, mode, type: "file", content }) as const;
  const folder = (path: string) => ({ path, mode: 0o755, type: "directory" }) as const;
  return {
    busybox: await busyboxLayer(busybox, base),
    withGroup: await busyboxLayer(busybox, {
      ...base,
      users: USERS + MORE_USERS,
      groups: GROUPS + MORE_GROUPS,
    }),
    pause: await packLayer([program(await compile("pause"), "pause")]),
    effectiveUid: await packLayer([
      program(await compile("effective_uid"), "effective-uid", 0o4755),
    ]),
    web: await packLayer([
      ...["usr", "usr/sbin", "var/run", "www"].map(folder),
      program(WEB_SERVER, "usr/sbin/nginx"),
      program(WEB_SERVER, "usr/sbin/httpd"),
      program("<h1>It works</h1>\n", "www/index.html", 0o644),
    ]),
  };
}

/** Compiles a C source of the folder `critest/` to a static program. */
async function compile(name: string): Promise<Uint8Array> {
  const source = fromFileUrl(new URL(`critest/${name}.c`, import.meta.url));
  const output = await Deno.makeTempFile();
  try {
    await runOk(["gcc", "-static", "-Os", "-s", "-o", output, source]);
    return await Deno.readFile(output);
  } finally {
    await Deno.remove(output);
  }
}
