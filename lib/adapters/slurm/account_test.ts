import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { CriError } from "../../base/error.ts";
import type { ImageRecord } from "../../store/records.ts";
import { imageRecord, TestStore } from "../../store/test_store.ts";
import { ClusterAccount } from "./account.ts";
import { TestCluster } from "./test_cluster.ts";

const NEVER = new AbortController().signal;
const CONTENT = "the image";
/** A user of the test's machine who is not the cluster's. */
const SOMEBODY_ELSE = 65534;

interface Place {
  cluster: TestCluster;
  account: ClusterAccount;
  image: ImageRecord;
  /** Lines for the container's log. */
  announced: string[];
  provide: () => Promise<string>;
  /** Names in the image directory. */
  files: () => string[];
}

function test(
  name: string,
  use: (place: Place) => Promise<void>,
  options: { ignore?: boolean; imageRemoteMount?: (home: string) => string } = {},
): void {
  Deno.test({
    name: `ClusterAccount ${name}`,
    ignore: options.ignore ?? false,
    fn: async () => {
      await using cluster = await TestCluster.create();
      await using records = await TestStore.open();
      const path = records.path("image.sif");
      await Deno.writeTextFile(path, CONTENT);
      const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(CONTENT));
      const sha256 = new Uint8Array(digest).toHex();
      const image = imageRecord({ sif: { path, sizeBytes: CONTENT.length, sha256 } });
      const account = new ClusterAccount(cluster.session, {
        mountPath: "multi-cri",
        imageRemoteMount: options.imageRemoteMount?.(cluster.home),
      }, cluster.lines);
      const announced: string[] = [];
      await use({
        cluster,
        account,
        image,
        announced,
        provide: () =>
          account.provideImage(image, undefined, { prerun: "", options: [] }, NEVER, (message) => {
            announced.push(message);
            return Promise.resolve();
          }),
        files: () => {
          try {
            return [...Deno.readDirSync(join(cluster.home, "multi-cri/.images"))]
              .map(({ name }) => name);
          } catch {
            return [];
          }
        },
      });
    },
  });
}

const SIF = `${"a".repeat(64)}.sif`;

test("brings an image once, however many ask for it", async ({ cluster, provide, files }) => {
  let uploads = 0;
  const send = cluster.send.bind(cluster);
  cluster.send = (...how) => {
    uploads++;
    return send(...how);
  };
  const paths = await Promise.all([provide(), provide()]);
  assertEquals(new Set(paths), new Set([join(cluster.home, "multi-cri/.images", SIF)]));
  await provide();
  assertEquals([files(), uploads], [[SIF], 1]);
  assertEquals(await Deno.readTextFile(paths[0] ?? ""), CONTENT);
});

test("leaves no part and no image when an upload arrived damaged", async ({ cluster, provide, files }) => {
  cluster.send = (script) => cluster.run(script, { stdin: new TextEncoder().encode("damaged") });
  const error = await assertRejects(provide, CriError, "what arrived is not what was sent");
  assertEquals([error.code, files()], ["FAILED_PRECONDITION", []]);
});

for (const code of ["DEADLINE_EXCEEDED", "UNKNOWN", "RESOURCE_EXHAUSTED"] as const) {
  test(`leaves no part when the upload ended with ${code}`, async ({ cluster, provide, files }) => {
    for (let i = 0; i < 3; i++) {
      const error = new CriError(code, "too slow");
      cluster.breaks.push({ words: "sha256sum <", error, when: "before" });
      assertEquals((await assertRejects(provide, CriError, "too slow")).code, code);
      assertEquals(files(), []);
    }
    await provide();
    assertEquals(files(), [SIF]);
  });
}

test("leaves no part when the upload was cancelled on its way", async ({ cluster, provide, files }) => {
  cluster.send = async (script) => {
    const [, part = ""] = /cat >'?([^ ']+)/.exec(script) ?? [];
    await Deno.writeTextFile(join(cluster.home, "multi-cri/.images", part), "half");
    assertEquals(files().includes(part), true);
    throw new CriError("CANCELLED", "cancelled");
  };
  await assertRejects(provide, CriError, "cancelled");
  assertEquals(files(), []);
});

test("says that it uploads an image when that takes long", async ({ cluster, account, image, announced }) => {
  const announce = (message: string) => {
    announced.push(message);
    return Promise.resolve();
  };
  for (const sizeBytes of [9, 40_000_000_000]) {
    const sif = { path: "", sha256: "", ...image.sif, sizeBytes };
    await account.provideImage(
      { ...image, sif },
      undefined,
      { prerun: "", options: [] },
      NEVER,
      announce,
    );
    await Deno.remove(join(cluster.home, "multi-cri/.images", SIF));
  }
  assertEquals(announced, ["uploading the image (40000 MB) to u@login:22"]);
});

test(
  "refuses an image that another user put into a shared directory",
  async ({ cluster, provide }) => {
    const path = join(cluster.home, "shared", SIF);
    await Deno.mkdir(join(cluster.home, "shared"));
    await Deno.writeTextFile(path, "not ours");
    await Deno.chown(path, SOMEBODY_ELSE, SOMEBODY_ELSE);
    const error = await assertRejects(provide, CriError, "another user owns it");
    assertEquals(error.code, "FAILED_PRECONDITION");
    await Deno.chown(path, Deno.uid(), Deno.gid());
    assertEquals(await provide(), path);
  },
  { ignore: Deno.uid() !== 0, imageRemoteMount: (home) => join(home, "shared") },
);

test(
  "puts images below the home directory when their directory is relative",
  async ({ cluster, provide }) => {
    assertEquals(await provide(), join(cluster.home, "images", SIF));
  },
  { imageRemoteMount: () => "images" },
);

test("names the commands that a cluster lacks", async ({ cluster, account }) => {
  await Deno.remove(join(cluster.root, "bin/squeue"));
  const error = await assertRejects(() => account.containerDirectory("s", "c"), CriError);
  assertStringIncludes(error.message, "missing from the PATH of its login shell: squeue.");
  assertEquals(error.code, "FAILED_PRECONDITION");
});

test("connects at once where the session waits, and leaves a refused login alone", async ({ cluster, account }) => {
  const error = new CriError("UNAVAILABLE", "no route");
  let connects = 0;
  cluster.connect = async () => {
    connects++;
    await Promise.resolve();
  };
  for (const kind of ["refused", "waiting"] as const) {
    cluster.state = { kind, attempt: 1, error, untilMs: 10 };
    await account.reach();
  }
  cluster.state = { kind: "ready", sinceMs: 0 };
  await account.reach();
  assertEquals(connects, 1);
});

test("refuses a volume that is the directory of images", async ({ cluster, account }) => {
  const made = () => Promise.resolve();
  const find = (claim: string) => account.volumeDirectory(claim, made);
  const refused = await assertRejects(() => find("ours"), CriError, "holds the images of all pods");
  assertEquals(refused.code, "INVALID_ARGUMENT");
  assertEquals(await find("our"), join(cluster.home, "multi-cri/our"));
}, { imageRemoteMount: (home) => join(home, "multi-cri/ours/images") });
