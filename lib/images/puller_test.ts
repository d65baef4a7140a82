import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { CriError } from "../base/error.ts";
import type { Executor, RunOptions, RunResult } from "../executors/executor.ts";
import type { RegistryAuth } from "./credentials.ts";
import { parseImageName } from "../../wasm/core.ts";
import { Puller, type SifSource } from "./puller.ts";
import { sha256, tarOf, writeLayout } from "./test_layout.ts";

const IMAGE = { registry: "r.example:5000", repository: "team/app", tag: "1" };
const DIGEST = `sha256:${"4".repeat(63)}a`;
const AUTH = { auth: "c2VjcmV0" };
const NEVER = new AbortController().signal;

const access = (workDir: string, ...auth: [RegistryAuth?]) => ({
  auth: auth.length === 0 ? AUTH : auth[0],
  workDir,
  signal: NEVER,
});

interface Run {
  argv: readonly string[];
  env: Record<string, string>;
  /** The auth file as it was then. */
  auth: unknown;
  authMode: number | null | undefined;
}

type Program = (
  argv: readonly string[],
) => Promise<Partial<{ code: number; stdout: string; stderr: string }>>;

/** Runs `program` in place of skopeo and apptainer. */
class TestExecutor implements Executor {
  readonly runs: Run[] = [];

  constructor(readonly program: Program) {}

  async run(argv: readonly [string, ...string[]], options: RunOptions = {}): Promise<RunResult> {
    const { env = {} } = options;
    const path = env["REGISTRY_AUTH_FILE"];
    this.runs.push({
      argv,
      env,
      auth: path === undefined ? undefined : JSON.parse(await Deno.readTextFile(path)),
      authMode: path === undefined ? undefined : (await Deno.stat(path)).mode,
    });
    const { code = 0, stdout = "", stderr = "" } = await this.program(argv);
    const encode = (text: string) => new TextEncoder().encode(text);
    return { code, stdout: encode(stdout), stderr: encode(stderr) };
  }
}

async function withPuller(
  program: Program,
  use: (test: { puller: Puller; executor: TestExecutor; workDir: string }) => Promise<void>,
): Promise<void> {
  const workDir = await Deno.makeTempDir({ prefix: "pull-" });
  const executor = new TestExecutor(program);
  const tools = { apptainer: "apptainer", skopeo: "skopeo" };
  try {
    await use({ puller: new Puller(executor, tools), executor, workDir });
  } finally {
    await Deno.remove(workDir, { recursive: true });
  }
}

async function filesIn(directory: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(directory))).map(({ name }) => name);
}

Deno.test("Puller.resolve() hashes the manifest as it came", () =>
  withPuller(
    () => Promise.resolve({ stdout: '{"a":1}\n' }),
    async ({ puller, executor, workDir }) => {
      const digest = await puller.resolve(IMAGE, access(workDir));
      assertEquals(digest, await sha256('{"a":1}\n'));
      assertEquals(executor.runs[0]?.argv, [
        "skopeo",
        "inspect",
        "--raw",
        "docker://r.example:5000/team/app:1",
      ]);
    },
  ));

Deno.test("Puller.resolve() asks the registry with the caller's credentials when the name has a digest", () =>
  withPuller(
    () => Promise.resolve({ stdout: '{"a":1}\n' }),
    async ({ puller, executor, workDir }) => {
      const digest = await sha256('{"a":1}\n');
      assertEquals(await puller.resolve({ ...IMAGE, digest }, access(workDir)), digest);
      const [run] = executor.runs;
      assertEquals(run?.argv.at(-1), `docker://r.example:5000/team/app@${digest}`);
      assertEquals(run?.auth, { auths: { "r.example:5000": AUTH } });
    },
  ));

Deno.test("Puller.resolve() throws UNAUTHENTICATED when the credentials do not reach a digest", () =>
  withPuller(
    () => Promise.resolve({ code: 1, stderr: fatal("unauthorized: authentication required") }),
    async ({ puller, workDir }) => {
      const resolve = () =>
        puller.resolve({ ...IMAGE, digest: DIGEST }, access(workDir, undefined));
      const error = await assertRejects(resolve, CriError, `team/app@${DIGEST}`);
      assertEquals(error.code, "UNAUTHENTICATED");
    },
  ));

for (const auth of [AUTH, undefined]) {
  Deno.test(`Puller gives skopeo ${auth ? "the credentials" : "no credentials"} by a private file only`, () =>
    withPuller(
      () => Promise.resolve({ stdout: "{}" }),
      async ({ puller, executor, workDir }) => {
        await puller.resolve(IMAGE, access(workDir, auth));
        const [run] = executor.runs;
        assertEquals(run?.auth, { auths: auth ? { "r.example:5000": auth } : {} });
        assertEquals((run?.authMode ?? 0) & 0o777, 0o600);
        assertEquals(JSON.stringify([run?.argv, run?.env]).includes(AUTH.auth), false);
        assertEquals(await filesIn(workDir), []);
      },
    ));
}

Deno.test("Puller removes the credentials when skopeo cannot be run", () =>
  withPuller(
    () => Promise.reject(new CriError("NOT_FOUND", "no skopeo")),
    async ({ puller, workDir }) => {
      await assertRejects(() => puller.resolve(IMAGE, access(workDir)), CriError, "no skopeo");
      assertEquals(await filesIn(workDir), []);
    },
  ));

const fatal = (message: string) =>
  `time="2026-01-02T03:04:05Z" level=debug msg="more"\n` +
  `time="2026-01-02T03:04:05Z" level=fatal msg=${JSON.stringify(message)}\n`;

const ERRORS: readonly [stderr: string, code: string, words: string][] = [
  [
    fatal(
      "Error parsing image name: reading manifest 1 in r.example:5000/team/app: manifest unknown",
    ),
    "NOT_FOUND",
    "Cannot pull team/app:1 from r.example:5000: the registry has no such image.",
  ],
  [
    fatal("reading manifest: name unknown: repository name not known"),
    "NOT_FOUND",
    "no such image",
  ],
  [fatal("invalid status code from registry 404 (Not Found)"), "NOT_FOUND", "no such image"],
  [fatal("StatusCode: 404, nothing here"), "NOT_FOUND", "no such image"],
  [
    fatal("reading manifest 1: unauthorized: authentication required"),
    "UNAUTHENTICATED",
    "refuses",
  ],
  [fatal("denied: requested access to the resource is denied"), "UNAUTHENTICATED", "refuses"],
  [fatal("invalid status code from registry 403 (Forbidden)"), "UNAUTHENTICATED", "refuses"],
  [
    fatal("pinging container registry r.example:5000: connection refused"),
    "UNAVAILABLE",
    "skopeo says: pinging container registry r.example:5000: connection refused",
  ],
  [fatal("dial tcp 10.0.0.1:4040: connect: connection refused"), "UNAVAILABLE", "4040"],
  [fatal(`reading blob sha256:40140300: unexpected EOF`), "UNAVAILABLE", "unexpected EOF"],
  [fatal("open /etc/containers/policy.json: permission denied"), "UNAVAILABLE", "policy.json"],
  [fatal('unknown flag "x"'), "UNAVAILABLE", 'unknown flag "x"'],
  ["killed\n", "UNAVAILABLE", "skopeo says: killed"],
  ["", "UNAVAILABLE", "skopeo says: nothing, exit code 1"],
];

for (const [stderr, code, words] of ERRORS) {
  Deno.test(`Puller throws ${code} when skopeo says ${JSON.stringify(stderr)}`, () =>
    withPuller(() => Promise.resolve({ code: 1, stderr }), async ({ puller, workDir }) => {
      const error = await assertRejects(
        () => puller.resolve(IMAGE, access(workDir)),
        CriError,
      );
      assertEquals([error.code, error.message.includes("\n")], [code, false]);
      assertStringIncludes(error.message, words);
    }));
}

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

Deno.test("Puller gives skopeo the node's own credentials when the image comes without", async () => {
  const envs: unknown[] = [];
  const executor: Executor = {
    run: (_argv, options = {}) => {
      envs.push(options.env);
      const empty = new Uint8Array();
      return Promise.resolve({ code: 0, stdout: empty, stderr: empty });
    },
  };
  const workDir = await Deno.makeTempDir({ prefix: "pull-" });
  const puller = new Puller(
    executor,
    { apptainer: "apptainer", skopeo: "skopeo" },
    "/etc/multicri/auth.json",
  );
  await puller.resolve(IMAGE, access(workDir, undefined));
  await puller.resolve(IMAGE, access(workDir));
  assertEquals(envs, [
    { REGISTRY_AUTH_FILE: "/etc/multicri/auth.json" },
    { REGISTRY_AUTH_FILE: join(workDir, "auth.json") },
  ]);
  await Deno.remove(workDir);
});
