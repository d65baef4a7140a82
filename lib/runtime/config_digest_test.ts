import { assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { ContainerConfig } from "../cri/api.generated.ts";
import { configDigest } from "./config_digest.ts";

const config = (changes: Parameters<typeof ContainerConfig.fromPartial>[0] = {}) =>
  ContainerConfig.fromPartial({
    metadata: { name: "main", attempt: 1 },
    args: ["a", "b"],
    labels: { x: "1", y: "2", z: "3" },
    envs: [{ key: "A", value: new Uint8Array([1, 2]) }],
    linux: { resources: { cpuQuota: 5n, unified: { m: "1", n: "2" } } },
    ...changes,
  });

/** The message as it comes from the wire, where maps lie in the order of their entries. */
const overTheWire = (message: ContainerConfig) =>
  ContainerConfig.decode(ContainerConfig.encode(message).finish());

Deno.test("configDigest() is the same when the entries of maps are shuffled", () => {
  const shuffled = config({
    labels: { z: "3", x: "1", y: "2" },
    linux: { resources: { cpuQuota: 5n, unified: { n: "2", m: "1" } } },
  });
  assertMatch(configDigest(config()), /^[0-9a-f]{64}$/);
  assertEquals(configDigest(overTheWire(shuffled)), configDigest(config()));
});

const OTHERS: Record<string, Parameters<typeof ContainerConfig.fromPartial>[0]> = {
  "a list's order": { args: ["b", "a"] },
  "words joined": { args: ["a,b"] },
  "a label's value": { labels: { x: "1", y: "2", z: "4" } },
  "a label's name": { labels: { x: "1", y: "2", w: "3" } },
  "a variable's bytes": { envs: [{ key: "A", value: new Uint8Array([1, 3]) }] },
  "a variable's length": { envs: [{ key: "A", value: new Uint8Array([1, 2, 0]) }] },
  "a number": { linux: { resources: { cpuQuota: 6n, unified: { m: "1", n: "2" } } } },
  "an attempt": { metadata: { name: "main", attempt: 2 } },
  "a missing part": { linux: undefined },
};

for (const [what, change] of Object.entries(OTHERS)) {
  Deno.test(`configDigest() is another one when ${what} differs`, () => {
    assertNotEquals(configDigest(config(change)), configDigest(config()));
  });
}
