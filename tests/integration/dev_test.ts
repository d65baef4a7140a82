/** `deno task dev`, as a newcomer runs it, in a lab of its own. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { Lab } from "../../scripts/lab/lab.ts";

const OWN_LAB = { name: "devtest", subnet: "10.79.0" };

Deno.test("deno task dev runs the first pod, stays until Ctrl-C, and then leaves nothing", async () => {
  const lab = new Lab(OWN_LAB);
  const child = new Deno.Command(Deno.execPath(), {
    args: ["task", "dev"],
    cwd: lab.settings.checkout,
    env: { MULTICRI_LAB_NAME: OWN_LAB.name, MULTICRI_LAB_SUBNET: OWN_LAB.subnet },
    stdout: "piped",
    stderr: "null",
  }).spawn();
  let output = "";
  let interrupted = false;
  try {
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      output += text;
      if (interrupted || !output.includes("Ctrl-C ends")) continue;
      interrupted = true;
      const crictl = / task lab exec knode (.* ps -a)$/m.exec(output)?.[1] ?? "";
      const { stdout } = await lab.exec("knode", crictl.split(" "));
      assertStringIncludes(stdout, "Exited");
      child.kill("SIGINT");
    }
    for (const words of ["hello from", "step 5 of 5", "exit code 0 (Completed)"]) {
      assertStringIncludes(output, words);
    }
    assert(/^Slurm job \d+ on n[12]: /m.test(output), output);
    assertEquals((await child.status).success, true, output);
    assertEquals((await lab.status()).state, "down");
  } finally {
    await lab.down();
  }
});
