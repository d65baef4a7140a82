/** `multicri images` on the real cluster, as an administrator runs it on the node. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import { KNODE_PATHS } from "../../scripts/lab/settings.ts";
import { ENTRY, Harness } from "./harness.ts";

const CLUSTERS_FILE = "/run/images-clusters.yml";

Deno.test("images on a cluster are listed and pruned, but never one that a container uses", async () => {
  const harness = await Harness.start({ name: "imgcmd" });
  const { lab, server } = harness;
  const { host, user, password } = lab.login;
  const images = join(lab.homePath, "multi-cri/.images");
  const command = async (...words: string[]) => {
    const argv = [`${KNODE_PATHS.checkout}/scripts/multicri`, "images", ...words];
    const flags = ["--clusters-file", CLUSTERS_FILE, "--root-dir", server.rootDir];
    const socket = ["--socket-path", server.socketPath];
    return await lab.exec("knode", [...argv, ...flags, ...socket], {
      env: server.env,
      timeoutMs: 60_000,
    });
  };
  try {
    await Deno.writeTextFile(
      lab.path("knode", CLUSTERS_FILE),
      JSON.stringify({ clusters: { lab: { host, user, password } } }),
      { mode: 0o600 },
    );
    await harness.onCluster("rm -rf multi-cri/.images");
    await server.crictlOk(["pull", ENTRY]);
    const gone = await harness.run({ image: ENTRY });
    await harness.exited(gone.container);
    await server.crictlOk(["rmp", "--force", gone.pod]);
    const used = await harness.run({ command: ["/bin/sleep", "60"] });
    await harness.running(used.container);

    const listed = await command("list");
    assertEquals([listed.code, listed.stderr], [0, ""]);
    assertMatch(listed.stdout, /lab: [0-9a-f]{64}\.sif {2}\d+\.\d MB {2}in use {2}\S+\/\S+:\S+/);
    assertMatch(listed.stdout, /lab: [0-9a-f]{64}\.sif {2}\d+\.\d MB {2}last asked for /);
    assertMatch(listed.stdout, /lab: 2 images, \d+\.\d MB\n$/);

    assertMatch((await command("prune")).stdout, /lab: 0 images removed/);
    const monthAgo = new Date(Date.now() - 30 * 24 * 3600 * 1000);
    for await (const { name } of Deno.readDir(images)) {
      await Deno.utime(join(images, name), monthAgo, monthAgo);
    }
    assertMatch((await command("prune", "20")).stdout, /lab: 1 image removed/);
    assertMatch((await command("list")).stdout, /in use .*\nlab: 1 image/);
    await server.crictlOk(["rmp", "--force", used.pod]);

    const byEnvironment = await lab.exec("knode", [
      `${KNODE_PATHS.checkout}/scripts/multicri`,
      ...["images", "list", "--root-dir", server.rootDir],
    ], {
      env: {
        ...server.env,
        CLUSTER_HOST: host,
        CLUSTER_USERNAME: user,
        CLUSTER_PASSWORD: password,
      },
      timeoutMs: 60_000,
    });
    // At the default socket nobody answers.
    assertMatch(
      byEnvironment.stdout,
      /^env: .*\nenv: 1 image.*\nThe images' names are not known: /,
    );

    const unknown = await command("delete");
    assertEquals(unknown.code, 2);
    assertMatch(unknown.stderr, /"delete" is unknown/);
    assert(!listed.stdout.includes(password));
  } finally {
    await harness.stop();
  }
});
