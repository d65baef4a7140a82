import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { CriError } from "../base/error.ts";
import type { Executor } from "../executors/executor.ts";
import { Puller } from "./puller.ts";
import { access, AUTH, DIGEST, fatal, filesIn, IMAGE, withPuller } from "./test_puller.ts";
import { sha256 } from "./test_layout.ts";

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

Deno.test("Puller gives skopeo a relay in the registry's place when the credentials are a bearer token", () =>
  withPuller(
    async (argv) => {
      const text = await Deno.readTextFile(argv[2] ?? "");
      const location = /location = "(.*)"/.exec(text)?.[1] ?? "";
      const [address = ""] = location.split("/");
      const response = await fetch(`http://${address}/v2/`);
      await response.body?.cancel();
      assertEquals([location, response.status], [`${address}/team/app`, 401]);
      return { code: 1, stderr: fatal(`pinging container registry ${address}: no`) };
    },
    async ({ puller, executor, workDir }) => {
      const given = access(workDir, { registryToken: "bearer-secret" });
      const error = await assertRejects(() => puller.resolve(IMAGE, given), CriError);
      assertEquals(
        error.message,
        "Cannot pull team/app:1 from r.example:5000: skopeo says: pinging container registry r.example:5000: no",
      );
      const [run] = executor.runs;
      assertEquals(run?.argv.toSpliced(2, 1), [
        ...["skopeo", "--registries-conf", "inspect", "--raw"],
        "docker://r.example:5000/team/app:1",
      ]);
      assertEquals(JSON.stringify(run).includes("bearer-secret"), false);
      assertEquals((run?.authMode ?? 0) & 0o777, 0o600);
      assertEquals(await filesIn(workDir), []);
    },
  ));

Deno.test("Puller throws UNAVAILABLE with the reason when the registry of a bearer token does not speak https", async () => {
  const registry = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => new Response(),
  );
  const image = { ...IMAGE, registry: `127.0.0.1:${registry.addr.port}` };
  await withPuller(
    async (argv) => {
      const text = await Deno.readTextFile(argv[2] ?? "");
      const address = /location = "([^/]*)/.exec(text)?.[1] ?? "";
      const { auths } = JSON.parse(await Deno.readTextFile(join(argv[2] ?? "", "..", "auth.json")));
      const response = await fetch(`http://${address}/v2/team/app/manifests/1`, {
        headers: { authorization: `Basic ${auths[address].auth}` },
      });
      await response.body?.cancel();
      return { code: 1, stderr: fatal(`received unexpected HTTP status: ${response.status}`) };
    },
    async ({ puller, workDir }) => {
      const given = access(workDir, { registryToken: "bearer-secret" });
      const error = await assertRejects(() => puller.resolve(image, given), CriError);
      assertEquals(error.code, "UNAVAILABLE");
      assertStringIncludes(
        error.message,
        `Cannot pull team/app:1 from ${image.registry}: ${image.registry} cannot be asked: `,
      );
    },
  );
  await registry.shutdown();
});

Deno.test("Puller removes the credentials when skopeo cannot be run", () =>
  withPuller(
    () => Promise.reject(new CriError("NOT_FOUND", "no skopeo")),
    async ({ puller, workDir }) => {
      await assertRejects(() => puller.resolve(IMAGE, access(workDir)), CriError, "no skopeo");
      assertEquals(await filesIn(workDir), []);
    },
  ));

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

Deno.test("Puller says why credentials were not sent when the registry wants some", () =>
  withPuller(
    () => Promise.resolve({ code: 1, stderr: fatal("unauthorized: authentication required") }),
    async ({ puller, workDir }) => {
      const given = { ...access(workDir, undefined), notSent: "they go elsewhere" };
      await assertRejects(
        () => puller.resolve(IMAGE, given),
        CriError,
        "wants credentials; those that came were not sent: they go elsewhere.",
      );
    },
  ));

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
