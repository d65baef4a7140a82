import { createHash } from "node:crypto";
import { join } from "@std/path";
import { systemClock } from "../../lib/base/clock.ts";
import { createLogger, writeStderrLine, writeStdoutLine } from "../../lib/base/log.ts";
import { ListImagesRequest, ListImagesResponse } from "../../lib/cri/api.generated.ts";
import { createLocalExecutor } from "../../lib/executors/local.ts";
import { ImageService } from "../../lib/images/image_service.ts";
import { Puller } from "../../lib/images/puller.ts";
import { TestClient } from "../../lib/server/test_client.ts";
import { Store } from "../../lib/store/store.ts";
import { parseImageName } from "../../wasm/core.ts";
import { type Containerd, startContainerd } from "../lab/containerd.ts";
import type { Lab } from "../lab/lab.ts";
import { NodeServer } from "../lab/node_server.ts";
import { waitFor } from "../lab/progress.ts";
import { type ImageConfig, packLayer, writeLayout } from "../lab/oci_layout.ts";
import { compare, quantile, type Way } from "./samples.ts";

const SERVER_TIMES = 500;
/** More than any node has. */
const IMAGES = 1000;
/** containerd writes each one durably. */
const IMPORT_TIMEOUT_MS = 120_000;
const NAME = "docker.io/bench/many";
/** As the images of a program that is built every day: what differs is a label. */
const configOf = (index: number): ImageConfig => ({
  Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
  Cmd: ["/bin/program", "--verbose"],
  WorkingDir: "/work",
  Labels: { build: String(index) },
});

/** ListImages of a thousand images, by containerd and by multicri. The client is the same: its own part is in both. */
export async function benchImages(lab: Lab): Promise<void> {
  const containerd = await startContainerd(lab);
  const server = new NodeServer(lab, { name: "benchimages", flags: ["-v", "0"] });
  await server.forget();
  const poolPath = lab.path("knode", server.cachePath);
  await withStore(poolPath, (store) => {
    fillPool(store, poolPath, server.cachePath);
    serverTime(store, poolPath);
  });
  await server.start();
  const clients = [containerd, server].map(({ socketPath }) =>
    new TestClient(lab.path("knode", socketPath))
  );
  try {
    await fillContainerd(lab, containerd);
    const [base, own] = clients;
    if (base === undefined || own === undefined) return;
    const everything = ListImagesRequest.encode({ filter: undefined }).finish();
    for (const client of clients) {
      // containerd's CRI hears of imported images one after the other.
      await waitFor("A list of all images", async () => {
        const bytes = await client.unary("ListImages", everything);
        const found = ListImagesResponse.decode(bytes).images
          .filter(({ repoTags }) => repoTags.some((tag) => tag.startsWith(NAME)));
        return found.length === IMAGES;
      }, { timeoutMs: IMPORT_TIMEOUT_MS, log: containerd.logPath });
    }
    writeStdoutLine("milliseconds, p50 and p99 of each; a first call is not counted");
    const way = (name: string, client: TestClient): Way => ({
      name,
      run: () => client.unary("ListImages", everything),
    });
    for (const parallel of [1, 4]) {
      await compare(
        `ListImages of ${IMAGES}`,
        [way("containerd", base), way("multicri", own)],
        { times: 200, parallel },
      );
    }
  } finally {
    for (const client of clients) client.close();
    await server.stop();
    await containerd.stop();
  }
}

/** Opens the records of an empty pool while `use` runs. */
async function withStore(poolPath: string, use: (store: Store) => void): Promise<void> {
  await Deno.remove(poolPath, { recursive: true }).catch(() => {});
  await Deno.mkdir(join(poolPath, "sif"), { recursive: true });
  const records = await Deno.makeTempDir({ prefix: "bench-images-" });
  try {
    using store = Store.open({ podsDir: records, rootDir: records, imagesDir: poolPath });
    use(store);
  } finally {
    await Deno.remove(records, { recursive: true });
  }
}

/** Puts images into the pool, with files that nobody reads. */
function fillPool(store: Store, poolPath: string, pathInNode: string): void {
  for (let index = 0; index < IMAGES; index++) {
    const { Env = [], Cmd = [], WorkingDir = "", Labels = {} } = configOf(index);
    const sha256 = createHash("sha256").update(String(index)).digest("hex");
    const asked = `${NAME}:v${index}`;
    Deno.writeTextFileSync(join(poolPath, "sif", `${sha256}.sif`), "");
    store.images.put({
      id: `sha256:${sha256}`,
      names: [{ asked, canonical: parseImageName(asked).canonical }],
      repoDigests: [`${NAME}@sha256:${sha256}`],
      sif: { path: join(pathInNode, "sif", `${sha256}.sif`), sizeBytes: 1, sha256 },
      config: {
        user: "",
        env: Env,
        entrypoint: [],
        cmd: Cmd,
        workingDir: WorkingDir,
        labels: Labels,
        stopSignal: "",
      },
      hasShell: true,
      pulledAtMs: 0,
      removed: false,
    });
  }
}

/** Prints what the answer alone takes, without the way to the server and back. */
function serverTime(store: Store, poolPath: string): void {
  const puller = new Puller(createLocalExecutor(), { apptainer: "apptainer", skopeo: "skopeo" });
  const log = createLogger({ threshold: "error", write: writeStderrLine });
  const images = new ImageService(poolPath, store, puller, systemClock, log);
  const samples: number[] = [];
  for (let times = 0; times < SERVER_TIMES; times++) {
    const begun = performance.now();
    ListImagesResponse.encode({ images: images.list(undefined) }).finish();
    samples.push(performance.now() - begun);
  }
  const [p50, p99] = [quantile(samples, 0.5), quantile(samples, 0.99)];
  writeStdoutLine(
    `ListImages of ${IMAGES} in multicri's own time, ms p50 ${p50.toFixed(2)} p99 ${
      p99.toFixed(2)
    }`,
  );
}

/** Imports as many images, which share a layer. */
async function fillContainerd(lab: Lab, { socketPath }: Containerd): Promise<void> {
  const folder = lab.path("knode", "/tmp/bench-images");
  const layer = await packLayer([{ path: "/file", mode: 0o644, type: "file", content: "x" }]);
  await Deno.remove(folder, { recursive: true }).catch(() => {});
  const images = Array.from({ length: IMAGES }, (_, index) => ({
    name: `v${index}`,
    layers: [layer],
    config: configOf(index),
  }));
  await writeLayout(folder, images);
  const script = `cd /tmp/bench-images
tar -cf - . | ctr --address "$1" --namespace k8s.io images import --no-unpack --base-name "$2" - >/dev/null
rm -rf /tmp/bench-images`;
  const argv = ["sh", "-euc", script, "sh", socketPath, NAME];
  const { code, stderr } = await lab.exec("knode", argv, { timeoutMs: IMPORT_TIMEOUT_MS });
  if (code !== 0) throw new Error(`The images were not imported: ${stderr}`);
}
