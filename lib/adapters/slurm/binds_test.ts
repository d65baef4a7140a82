import { assertEquals } from "@std/assert";
import { bindArguments } from "./binds.ts";

const BINDS: readonly [source: string, destination: string, readonly: boolean, field: string][] = [
  ["/home/u/data", "/data", false, "type=bind,source=/home/u/data,destination=/data"],
  ["/a", "/b", true, "type=bind,source=/a,destination=/b,ro"],
  ["/a b:c", "/d'e f", false, "type=bind,source=/a b:c,destination=/d'e f"],
  ["/a,ro", "/b", false, 'type=bind,"source=/a,ro",destination=/b'],
  ["/a", '/say "x"', true, 'type=bind,source=/a,"destination=/say ""x""",ro'],
  ["/a\nb", "/b=c", false, 'type=bind,"source=/a\nb",destination=/b=c'],
];
for (const [source, destination, readonly, field] of BINDS) {
  Deno.test(`bindArguments() writes ${JSON.stringify(field)} when it binds ${JSON.stringify([source, destination])}`, () => {
    assertEquals(bindArguments({ source, destination, readonly }), ["--mount", field]);
  });
}
