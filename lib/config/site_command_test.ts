import { assertEquals, assertThrows } from "@std/assert";
import { parseSiteCommand } from "./site_command.ts";

Deno.test("parseSiteCommand() reads the clusters to check, none for all", () => {
  assertEquals(parseSiteCommand(["check"]), { clusters: [] });
  assertEquals(parseSiteCommand(["check", "hpc", "gpu"]), { clusters: ["hpc", "gpu"] });
});

for (const words of [[], ["list"], ["hpc"]]) {
  Deno.test(`parseSiteCommand() refuses ${JSON.stringify(words)}`, () => {
    assertThrows(() => parseSiteCommand(words), RangeError, "multicri site check [CLUSTER…]");
  });
}
