/** The server from an installed folder: no checkout, no Deno in PATH, no network. */
import { assertEquals } from "@std/assert";
import { install } from "../../scripts/install.ts";
import { Lab } from "../../scripts/lab/lab.ts";
import { Harness } from "./harness.ts";

const FOLDER = "/srv/multi cri";

Deno.test("a job runs when the server was installed into a folder", async () => {
  const lab = new Lab();
  await lab.up();
  await lab.exec("knode", ["rm", "-rf", FOLDER]);
  await install(lab.path("knode", FOLDER));
  const harness = await Harness.start({ name: "installed", installedIn: FOLDER });
  try {
    const made = await harness.run({ command: ["/bin/sh", "-c", "echo installed; exit 8"] });
    assertEquals((await harness.exited(made.container)).status.exitCode, 8);
    assertEquals((await harness.logs(made.container)).stdout, ["installed"]);
    await harness.removeCleanly(made);
  } finally {
    await harness.stop();
    await lab.exec("knode", ["rm", "-rf", FOLDER]);
  }
});
