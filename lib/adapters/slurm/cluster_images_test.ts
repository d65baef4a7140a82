import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { CriError } from "../../base/error.ts";
import { TestClock } from "../../base/test_clock.ts";
import type { ImageRecord } from "../../store/records.ts";
import { imageRecord, TestStore } from "../../store/test_store.ts";
import { ClusterImages, type ImagePlaces } from "./cluster_images.ts";
import { claimImageScript } from "./image_scripts.ts";
import { TestCluster } from "./test_cluster.ts";

const LOOK_MS = 2_000;
const DEAD_AFTER_MS = 60_000;
const SIF = `${"a".repeat(64)}.sif`;
const HIS = `${SIF}.his.part`;

/** Writes what its arguments say into the new file, and talks. */
const APPTAINER = `
while [ "$1" != --disable-cache ]; do shift; done
echo "in $PWD with $BROUGHT"
[ "$BROUGHT" != failure ] || { echo FATAL: no such layer; exit 255; }
printf '%s' "$3" >"$2"`;

interface Place {
  cluster: TestCluster;
  clock: TestClock;
  images: ClusterImages;
  image: ImageRecord;
  places: ImagePlaces;
  /** Lines for the container's log. */
  announced: string[];
  provide: (
    options?: {
      image?: ImageRecord;
      places?: Partial<ImagePlaces>;
      prerun?: string;
      launcher?: string[];
      signal?: AbortSignal;
    },
  ) => Promise<string>;
  names: () => string[];
  write: (path: string, content: string) => Promise<string>;
}

function test(name: string, use: (place: Place) => Promise<void>): void {
  Deno.test(`ClusterImages.provide() ${name}`, async () => {
    await using cluster = await TestCluster.create();
    await using records = await TestStore.open();
    await cluster.program("apptainer", APPTAINER);
    const path = records.path("image.sif");
    await Deno.writeTextFile(path, "sif");
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode("sif"));
    const image = imageRecord({
      sif: { path, sizeBytes: 3, sha256: new Uint8Array(digest).toHex() },
    });
    const clock = new TestClock();
    const images = new ClusterImages(cluster.session, clock);
    const places = { own: join(cluster.home, "images"), site: undefined, volume: undefined };
    const announced: string[] = [];
    await use({
      cluster,
      clock,
      images,
      image,
      places,
      announced,
      provide: (options = {}) =>
        images.provide(
          options.image ?? image,
          { ...places, ...options.places },
          { prerun: options.prerun ?? "", launcher: options.launcher ?? [] },
          options.signal ?? new AbortController().signal,
          (line) => Promise.resolve(void announced.push(line)),
        ),
      names: () => [...Deno.readDirSync(places.own)].map((entry) => entry.name).toSorted(),
      write: async (path, content) => {
        const file = join(cluster.home, path);
        await Deno.mkdir(join(file, ".."), { recursive: true });
        await Deno.writeTextFile(file, content);
        return file;
      },
    });
  });
}

test("waits for another server's upload and uploads nothing itself", async (place) => {
  const { cluster, clock, places, announced, provide, names, write } = place;
  await cluster.run(claimImageScript(places.own, SIF, HIS));
  cluster.send = () => Promise.reject(new Error("uploaded twice"));
  const provided = provide();
  await clock.sleeping(LOOK_MS);
  assertEquals(announced, ["waiting for the image, which is on its way to u@login:22"]);
  await write(`images/${SIF}`, "his");
  clock.advance(LOOK_MS);
  assertEquals(await provided, join(places.own, SIF));
  assertEquals([announced.length, names()], [1, [SIF, `${SIF}.lock`]]);
});

test("leaves an upload to its holder as long as something arrives", async (place) => {
  const { cluster, clock, places, provide, write } = place;
  await cluster.run(claimImageScript(places.own, SIF, HIS));
  const abort = new AbortController();
  const provided = provide({ signal: abort.signal });
  for (let arrived = 0; arrived < 3; arrived++) {
    await clock.sleeping(LOOK_MS);
    await write(`images/${HIS}.0123abcd.part`, "x".repeat(arrived));
    clock.advance(DEAD_AFTER_MS);
  }
  await clock.sleeping(LOOK_MS);
  assertEquals(await Deno.readLink(join(places.own, `${SIF}.lock`)), HIS);
  abort.abort(new CriError("CANCELLED", "stopped"));
  await assertRejects(() => provided, CriError, "stopped");
});

test("takes over when the holder shows nothing for a minute", async (place) => {
  const { cluster, clock, places, provide, names, write } = place;
  await cluster.run(claimImageScript(places.own, SIF, HIS));
  await write(`images/${HIS}.0123abcd.part`, "half");
  const provided = provide();
  for (let looks = 0; looks < 2; looks++) {
    await clock.sleeping(LOOK_MS);
    clock.advance(looks === 0 ? LOOK_MS : DEAD_AFTER_MS);
  }
  await clock.sleeping(LOOK_MS);
  clock.advance(LOOK_MS);
  assertEquals(await provided, join(places.own, SIF));
  assertEquals(names(), [SIF]);
});

test("gives the right back when the upload fails", async ({ cluster, provide, names }) => {
  const send = cluster.send.bind(cluster);
  cluster.send = () => Promise.reject(new CriError("FAILED_PRECONDITION", "no space"));
  await assertRejects(provide, CriError, "no space");
  assertEquals(names(), []);
  cluster.send = send;
  await provide();
  assertEquals(names(), [SIF]);
});

test("uses what the site has under the image's digest", async ({ cluster, provide, write }) => {
  const path = await write(`site/${SIF}`, "the site's");
  cluster.send = () => Promise.reject(new Error("uploaded"));
  assertEquals(await provide({ places: { site: join(cluster.home, "site") } }), path);
});

test("lets the cluster pull after its prerun script, and tells how it goes", async (place) => {
  const { image, places, announced, provide, names } = place;
  const source = "docker://docker.io/library/perl@sha256:1";
  const { sif: _, ...rest } = image;
  const path = await provide({
    image: { ...rest, clusterSource: source },
    prerun: "BROUGHT='it'\\''s here'; export BROUGHT",
  });
  assertEquals([await Deno.readTextFile(path), names()], [source, [SIF]]);
  assertEquals(announced, [`pulling ${source} on u@login:22`, `in ${places.own} with it's here`]);
});

test("calls the cluster's runtime through a launcher", async ({ cluster, image, announced, provide }) => {
  await cluster.program("launch", '\necho "launched with $1"; shift; exec "$@"');
  const { sif: _, ...rest } = image;
  const source = "docker://docker.io/library/perl@sha256:1";
  const path = await provide({
    image: { ...rest, clusterSource: source },
    launcher: ["launch", "--account=it's $(id)"],
  });
  assertEquals(await Deno.readTextFile(path), source);
  assertEquals(announced[1], "launched with --account=it's $(id)");
});

const definition = (changes: Partial<ImageRecord> = {}): ImageRecord => {
  const { sif: _, ...rest } = imageRecord();
  return { ...rest, volumeFile: { kind: "local-def-file", path: "it's/x.def" }, ...changes };
};

test("builds from a definition file beside it, once for each text and place", async (place) => {
  const { cluster, announced, provide, names, write } = place;
  const build = async (volume: string, text: string) => {
    await write(`${volume}/it's/x.def`, text);
    return await provide({
      image: definition(),
      places: { volume: join(cluster.home, volume) },
    });
  };
  const first = await build("v1", "From: a");
  assertEquals(await build("v1", "From: a"), first);
  const others = [await build("v2", "From: a"), await build("v1", "From: b")];
  assertEquals(new Set([first, ...others]).size, 3);
  assertEquals([await cluster.calls("apptainer"), names().length], [3, 3]);
  const file = join(await Deno.realPath(join(cluster.home, "v1/it's")), "x.def");
  assertEquals(await Deno.readTextFile(first), file);
  assertStringIncludes(announced[1] ?? "", `in ${file.slice(0, -"/x.def".length)} with`);
});

test("gives an upload up of which nothing arrives for a minute", async ({ cluster, clock, provide, names }) => {
  cluster.send = (_script, _path, signal) =>
    new Promise((_, reject) =>
      signal?.addEventListener("abort", () => reject(new CriError("CANCELLED", "killed")))
    );
  const refused = assertRejects(provide, CriError, "nothing of it arrived for 60 s");
  for (let look = 0; look <= 6; look++) {
    await clock.sleeping(10_000);
    clock.advance(10_000);
  }
  assertEquals([(await refused).code, names()], ["UNAVAILABLE", []]);
});

test("can be tried again when another server has taken an upload over", async ({ cluster, provide }) => {
  await cluster.program("sha256sum", '\nrm -f ./*.part; exec /usr/bin/sha256sum "$@"');
  const error = await assertRejects(provide, CriError, "another server took over");
  assertEquals(error.code, "UNAVAILABLE");
});

test("uploads four images at a time", async ({ cluster, image, provide }) => {
  const [four, all] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let sending = 0;
  const send = cluster.send.bind(cluster);
  cluster.send = async (script, path) => {
    if (++sending === 4) four.resolve();
    await all.promise;
    return await send(script, path);
  };
  const provided = Promise.all(
    ["b", "c", "d", "e", "f"].map((letter) =>
      provide({ image: { ...image, id: `sha256:${letter.repeat(64)}` } })
    ),
  );
  await four.promise;
  await cluster.run("");
  assertEquals(sending, 4);
  all.resolve();
  assertEquals([new Set(await provided).size, sending], [5, 5]);
});

test("gives a build up that says and writes nothing for half an hour", async (place) => {
  const { cluster, clock, announced, provide, names, write } = place;
  await write("v/it's/x.def", "From: a");
  let ended = false;
  // A runtime that hangs; what it has said before is told.
  cluster.run = ((run) => async (script, options) => {
    if (options?.onStdout === undefined) return await run(script, options);
    await options.onStdout(new TextEncoder().encode("compiling\n"));
    return await new Promise((_, reject) =>
      options.signal?.addEventListener("abort", () => {
        ended = true;
        reject(new CriError("CANCELLED", "killed"));
      })
    );
  })(cluster.run.bind(cluster));
  const volume = join(cluster.home, "v");
  const refused = assertRejects(
    () => provide({ image: definition(), places: { volume } }),
    CriError,
    "Cannot make the image (building the image from it's/x.def) on u@login:22: it said and wrote nothing for " +
      "30 minutes",
  );
  for (let minute = 0; minute <= 30; minute++) {
    await clock.sleeping(60_000);
    assertEquals(ended, false);
    clock.advance(60_000);
  }
  assertEquals([(await refused).code, ended], ["FAILED_PRECONDITION", true]);
  assertEquals([announced[1], names()], ["compiling", []]);
});

for (
  const [what, prepare, prerun, words] of [
    [
      "the runtime fails",
      () => Promise.resolve(),
      "export BROUGHT=failure",
      "FATAL: no such layer",
    ],
    ["the prerun script ends", () => Promise.resolve(), "exit 3", "exit code 3"],
    [
      "there is no runtime",
      (cluster: TestCluster) => Deno.remove(join(cluster.root, "bin/apptainer")),
      "PATH=/nowhere",
      "neither apptainer nor singularity",
    ],
  ] as const
) {
  test(`leaves nothing and says why when ${what}`, async ({ cluster, provide, names, write }) => {
    await prepare(cluster);
    await write("v/it's/x.def", "From: a");
    const failing = () =>
      provide({ image: definition(), places: { volume: join(cluster.home, "v") }, prerun });
    const error = await assertRejects(failing, CriError, words);
    assertEquals([error.code, names()], ["FAILED_PRECONDITION", []]);
  });
}

for (
  const [what, path, places, code] of [
    ["is missing", "x.img", { volume: "v" }, "NOT_FOUND"],
    ["has no volume", "x.img", { volume: "none" }, "NOT_FOUND"],
    ["lies outside", "out.img", { volume: "v" }, "PERMISSION_DENIED"],
    ["can lie nowhere", "x.img", {}, "FAILED_PRECONDITION"],
  ] as const
) {
  test(`throws ${code} when an image of the volume ${what}`, async ({ cluster, provide, write }) => {
    await write("v/y.img", "");
    await Deno.symlink("/etc/passwd", join(cluster.home, "v/out.img"));
    const volume = "volume" in places ? join(cluster.home, places.volume) : undefined;
    const image = definition({ volumeFile: { kind: "local-image", path } });
    const error = await assertRejects(
      () => provide({ image, places: { volume } }),
      CriError,
      `Cannot use the image "${path}"`,
    );
    assertEquals(error.code, code);
  });
}

test("finds an image in the site's directory where there is no volume", async ({ cluster, provide, write }) => {
  const path = await write("site/y.img", "");
  const image = definition({ volumeFile: { kind: "local-image", path: "y.img" } });
  const found = await provide({ image, places: { site: join(cluster.home, "site") } });
  assertEquals(found, await Deno.realPath(path));
});
