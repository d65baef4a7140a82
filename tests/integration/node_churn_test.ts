/** Containers that come and go on the node, with a server that is killed meanwhile, leave nothing. */
import { assertEquals } from "@std/assert";
import { churn } from "../node_churn.ts";

Deno.test("forty containers come and go on the node while the server is killed, and nothing is left", async () => {
  const { before, after, failures } = await churn("nodechurn", 40, 1);
  assertEquals(failures, []);
  assertEquals(after, before);
});
