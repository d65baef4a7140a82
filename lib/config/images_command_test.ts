import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { parseImagesCommand } from "./images_command.ts";
import { UsageError } from "./usage_error.ts";

for (
  const [words, command] of [
    ["list", { kind: "list" }],
    ["prune", { kind: "prune", days: 7 }],
    ["prune 30", { kind: "prune", days: 30 }],
    ["prune 0", undefined],
    ["prune -1", undefined],
    ["prune 1d", undefined],
    ["prune 1 2", undefined],
    ["list all", undefined],
    ["remove", undefined],
    ["", undefined],
  ] as const
) {
  Deno.test(`parseImagesCommand() ${command === undefined ? "refuses" : "reads"} '${words}'`, () => {
    const parse = () => parseImagesCommand(words.split(" ").filter((word) => word !== ""));
    if (command !== undefined) return assertEquals(parse(), command);
    const { message, help } = assertThrows(parse, UsageError);
    assertEquals(message.includes("\n"), false);
    assertStringIncludes(help ?? "", "\nmulticri images prune [DAYS]");
  });
}
