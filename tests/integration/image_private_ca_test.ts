/** A registry whose certificate nobody knows but the node's configuration of registries. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { dirname } from "@std/path";
import { waitFor } from "../../scripts/lab/progress.ts";
import { makeCertificate } from "./certificate.ts";
import { Harness } from "./harness.ts";

/** Free on the registry's host, whose images this one has too. */
const PORT = 5443;
const START_TIMEOUT_MS = 30_000;

Deno.test("an image comes from a registry with a private CA when certs.d names that", async () => {
  const harness = await Harness.start({ name: "privca" });
  const { lab, server } = harness;
  const address = `${lab.address("registry")}:${PORT}`;
  const { cert, key } = await makeCertificate(`IP:${lab.address("registry")}`);
  const config = [
    "version: 0.1",
    "log: {level: warn}",
    "storage: {filesystem: {rootdirectory: /var/lib/registry}}",
    `http: {addr: ":${PORT}", tls: {certificate: /run/private.crt, key: /run/private.key}}`,
    "",
  ].join("\n");
  const files = { "private.crt": cert, "private.key": key, "private.yml": config };
  for (const [name, text] of Object.entries(files)) {
    await Deno.writeTextFile(lab.path("registry", `/run/${name}`), text);
  }
  const registry = await lab.spawn("registry", ["docker-registry", "serve", "/run/private.yml"]);
  const trusted = lab.path("knode", `/etc/containers/certs.d/${address}/ca.crt`);
  try {
    await waitFor("The registry", async () => {
      const connection = await Deno.connect({ hostname: lab.address("registry"), port: PORT })
        .catch(() => undefined);
      connection?.close();
      return connection !== undefined;
    }, { timeoutMs: START_TIMEOUT_MS, log: "its own output" });
    for (const name of [`${address}/lab/entry:1`, `oras-repository.${address}/lab/entry:1`]) {
      const { code, stderr } = await server.crictl(["pull", name]);
      assert(code !== 0, "an unknown certificate was trusted");
      assertMatch(stderr, /Unavailable.*Cannot pull lab\/entry:1 from .*certificate/);
    }
    await Deno.mkdir(dirname(trusted), { recursive: true });
    await Deno.writeTextFile(trusted, cert);
    await server.crictlOk(["pull", `${address}/lab/entry:1`]);
    const made = await harness.run({ image: `${address}/lab/entry:1` });
    assertEquals((await harness.exited(made.container)).status.exitCode, 0);
    await harness.removeCleanly(made);
  } finally {
    await registry.kill();
    await Deno.remove(dirname(trusted), { recursive: true }).catch(() => {});
    await harness.stop();
  }
});
