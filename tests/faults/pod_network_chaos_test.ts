/** The server dies at random moments of RunPodSandbox and StopPodSandbox; what plugins were doing then goes on. */
import { delay } from "@std/async/delay";
import { assertEquals } from "@std/assert";
import { randomSource, seedFor } from "../../wasm/test_random.ts";
import { NetworkNode } from "../network_node.ts";

const ROUNDS = 20;

/** Somewhat longer than crictl, the server and the plugins take for a pod. */
const MOMENTS_MS = 400;

Deno.test("no namespace, interface, lease or rule is left when the server is killed at random moments", async () => {
  const random = randomSource(seedFor("deaths while pods get and lose their networks"));
  const node = await NetworkNode.start("netchaos");
  try {
    const before = await node.usedOnce();
    const kills = { runp: 0, stopp: 0 };
    for (let round = 0; round < ROUNDS; round++) {
      const fields = {
        port_mappings: [{ container_port: 80, host_port: 18082 }],
        // Makes an interface on the node.
        annotations: { "kubernetes.io/egress-bandwidth": "10M" },
      };
      const pod = random.below(3) === 0 ? await node.runPod(fields) : undefined;
      const args = pod === undefined ? await node.runArgs(fields) : ["stopp", pod];
      const call = node.server.crictl(args);
      await delay(random.below(MOMENTS_MS));
      await node.killServer();
      if ((await call).code !== 0) kills[pod === undefined ? "runp" : "stopp"]++;
      await node.server.start();
      // A pod whose call was answered, or whose record was written, is the client's to remove.
      const left = await node.server.crictlOk(["pods", "-q", "--no-trunc"]);
      if (left !== "") await node.server.crictlOk(["rmp", "--force", ...left.split("\n")]);
      assertEquals(await node.remains(), before, `round ${round}`);
    }
    // Otherwise the moments were all too late, and nothing was tried.
    assertEquals(kills.runp > ROUNDS / 5, true, JSON.stringify(kills));
  } finally {
    await node.stop();
  }
});
