/** Jobs whose home the login host sees half a minute late: their logs, states and ends. */
import { assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { Harness } from "../integration/harness.ts";
import { cacheHome } from "./cached_home.ts";

/** As NFS caches directories by default (acdirmin, nfs(5)). */
const CACHE_S = 30;
const LONG_MS = 180_000;
const LINES = Array.from({ length: 20 }, (_, index) => `line ${index + 1}`);
const SCRIPT =
  "for i in $(seq 1 20); do echo line $i; sleep 0.5; done; printf unfinished >&2; exit 5";

for (const follow of ["node", "files"]) {
  Deno.test(`a job's log is whole and its code its own when its home is cached and CRI_SLURM_FOLLOW is ${follow}`, async () => {
    const harness = await Harness.start({ name: "cached", env: { CRI_SLURM_FOLLOW: follow } });
    try {
      await using _home = await cacheHome(harness.lab, CACHE_S);
      const made = await harness.run({ command: ["/bin/sh", "-c", SCRIPT] });
      if (follow === "node") {
        const { info } = await harness.running(made.container);
        const logged = (lines: number) =>
          harness.until(
            made.container,
            "logging",
            async () => (await harness.logs(made.container)).stdout.length >= lines,
          );
        const seen = () => harness.onCluster(`stat -c %s ${info.slurm.directory}/stdout`);
        await logged(1);
        const before = await seen();
        await logged(8);
        assertEquals(await seen(), before, "the login host sees what comes");
        assertEquals(
          await harness.server.crictlOk(["exec", "--sync", made.container, "echo", "inside"]),
          "inside",
        );
      }
      const { status } = await harness.exited(made.container, LONG_MS);
      const { stdout, stderr } = await harness.logs(made.container);
      assertEquals([status.exitCode, status.reason, stdout, stderr], [5, "Error", LINES, [
        "unfinished",
      ]]);
      // The login host removes only what it sees; a kubelet tries again too.
      while ((await harness.server.crictl(["rmp", "--force", made.pod])).code !== 0) {
        await delay(1_000);
      }
      await harness.nothingLeft(made);
    } finally {
      await harness.stop();
    }
  });
}
