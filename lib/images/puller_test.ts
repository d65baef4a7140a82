import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { CriError } from "../base/error.ts";
import { parseImageName } from "../../wasm/core.ts";
import type { SifSource } from "./puller.ts";
import { access, DIGEST, IMAGE, NEVER, withPuller } from "./test_puller.ts";
import { sha256, tarOf, writeLayout } from "./test_layout.ts";

Deno.test("Puller.download() reads what it copied by digest", () =>
  withPuller(async (argv) => {
    await writeLayout(argv.at(-1)?.replace("oci:", "") ?? "", { config: { User: "u" } });
    return {};
  }, async ({ puller, executor, workDir }) => {
    const { id, config } = await puller.download(IMAGE, DIGEST, access(workDir));
    assertEquals([id, config.user], [await sha256('{"config":{"User":"u"}}'), "u"]);
    assertEquals(executor.runs[0]?.argv.slice(1), [
      "copy",
      "--quiet",
      `docker://r.example:5000/team/app@${DIGEST}`,
      `oci:${join(workDir, "layout")}`,
    ]);
  }));

const LAYERS: readonly [names: readonly string[], hasShell: boolean][] = [
  [["etc/passwd", "bin/sh"], true],
  [["etc/passwd", "app"], false],
];

for (const [names, hasShell] of LAYERS) {
  Deno.test(`Puller.build() measures and hashes the SIF, and says ${hasShell} of a shell when the image has ${names}`, () =>
    withPuller(async (argv) => {
      await Deno.writeTextFile(argv[3] ?? "", "sif");
      return {};
    }, async ({ puller, workDir }) => {
      await writeLayout(join(workDir, "layout"), {}, [await tarOf(names)]);
      assertEquals(await puller.build(workDir, NEVER), {
        sifPath: join(workDir, "image.sif"),
        sizeBytes: 3,
        sha256: (await sha256("sif")).slice("sha256:".length),
        hasShell,
      });
    }));
}

Deno.test("Puller.build() throws INTERNAL with Apptainer's last words when it fails", () =>
  withPuller(
    () => Promise.resolve({ code: 255, stderr: "INFO: x\nFATAL:   no space left\n" }),
    async ({ puller, workDir }) => {
      const build = () => puller.build(workDir, NEVER);
      const error = await assertRejects(build, CriError, "apptainer says: FATAL:   no space left");
      assertEquals(error.code, "INTERNAL");
    },
  ));

const HUB = "singularity-repository.jorgesece/singularity-nginx:latest";
const PULLS: readonly [name: string, argv: readonly string[]][] = [
  [HUB, ["shub://jorgesece/singularity-nginx"]],
  [
    "library-repository.alpine",
    ["--library", "https://library.sylabs.io", "library://alpine:latest"],
  ],
  ["library-repository.lib.lab:8080/a/b/c:1", ["library://lib.lab:8080/a/b/c:1"]],
  ["https-sif.host.lab/x.sif", ["https://host.lab/x.sif"]],
];

for (const [name, words] of PULLS) {
  Deno.test(`Puller.downloadSif() asks Apptainer for ${words.at(-1)} when the image is ${name}`, () =>
    withPuller(async (argv) => {
      if (argv[2] === "pull") await Deno.writeTextFile(argv.at(-2) ?? "", "sif");
      return {};
    }, async ({ puller, executor, workDir }) => {
      const source = parseImageName(name) as SifSource;
      const image = await puller.downloadSif(source, workDir, NEVER);
      const id = await sha256("sif");
      assertEquals([image.id, image.sha256, image.sizeBytes], [id, id.slice(7), 3]);
      const [url, ...options] = words.toReversed();
      assertEquals(executor.runs[0]?.argv, [
        ...["apptainer", "--quiet", "pull", "--disable-cache", ...options.toReversed()],
        ...[join(workDir, "image.sif"), url],
      ]);
      assertEquals(executor.runs[0]?.env, {
        APPTAINER_TMPDIR: workDir,
        APPTAINER_CACHEDIR: join(workDir, "cache"),
        TMPDIR: workDir,
      });
    }));
}

for (
  const [name, stderr, code, words] of [
    [HUB, "FATAL: no response", "UNAVAILABLE", "Singularity Hub was shut down in 2021"],
    ["https-sif.h.lab/x.sif", "FATAL: image was not found.", "NOT_FOUND", "was not found."],
    ["https-sif.h.lab/x.sif", "write x: no space left on device", "RESOURCE_EXHAUSTED", "is full"],
  ] as const
) {
  Deno.test(`Puller.downloadSif() throws ${code} when Apptainer says ${stderr} of ${name}`, () =>
    withPuller(() => Promise.resolve({ code: 255, stderr }), async ({ puller, workDir }) => {
      const download = () => puller.downloadSif(parseImageName(name) as SifSource, workDir, NEVER);
      assertEquals((await assertRejects(download, CriError, words)).code, code);
    }));
}

Deno.test("Puller.downloadSif() throws FAILED_PRECONDITION when the file is not what the name says", () =>
  withPuller(async (argv) => {
    if (argv[2] === "pull") await Deno.writeTextFile(argv.at(-2) ?? "", "another sif");
    return {};
  }, async ({ puller, workDir }) => {
    const source = parseImageName(`https-sif.h.lab/x.sif@${await sha256("sif")}`) as SifSource;
    const download = () => puller.downloadSif(source, workDir, NEVER);
    const error = await assertRejects(download, CriError, "its digest must be");
    assertEquals(error.code, "FAILED_PRECONDITION");
  }));
