import { assertEquals } from "@std/assert";
import { LinuxContainerSecurityContext } from "../../../cri/api.generated.ts";
import { capabilitiesOf, namesOfSet } from "./capabilities.ts";

/** What the kernel of some node gives, without CAP_SYS_RESOURCE. */
const AVAILABLE = namesOfSet("000001fffeffffff");

function granted(
  add: string[],
  drop: string[],
  more: Parameters<typeof LinuxContainerSecurityContext.fromPartial>[0] = {},
): string[] {
  const context = LinuxContainerSecurityContext.fromPartial({
    capabilities: { addCapabilities: add, dropCapabilities: drop },
    ...more,
  });
  return capabilitiesOf(context, AVAILABLE).effective.map((name) => name.replace("CAP_", ""))
    .sort();
}

const USUAL = granted([], []);

Deno.test("namesOfSet() names the bits of a set of capabilities", () => {
  assertEquals(namesOfSet("0000000000000421"), ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
  assertEquals([AVAILABLE.length, AVAILABLE.includes("CAP_SYS_RESOURCE")], [40, false]);
});

Deno.test("capabilitiesOf() changes the usual capabilities as the pod asks", () => {
  assertEquals(USUAL.length, 14);
  assertEquals(granted(["NET_ADMIN"], []), [...USUAL, "NET_ADMIN"].sort());
  assertEquals(granted(["cap_net_admin"], ["ALL"]), ["NET_ADMIN"]);
  assertEquals(granted([], ["CHOWN"]), USUAL.filter((name) => name !== "CHOWN"));
  assertEquals(granted([], ["ALL"]), []);
  assertEquals(granted(["ALL"], []).length, AVAILABLE.length);
  assertEquals(granted(["ALL"], ["CHOWN"]).includes("CHOWN"), false);
  assertEquals(granted([], ["ALL"], { privileged: true }).length, AVAILABLE.length);
});

Deno.test("capabilitiesOf() leaves out what the node does not have", () => {
  assertEquals(granted(["SYS_RESOURCE"], []), USUAL);
});

Deno.test("capabilitiesOf() raises ambient capabilities", () => {
  const context = LinuxContainerSecurityContext.fromPartial({
    capabilities: { addAmbientCapabilities: ["NET_RAW"] },
  });
  const { ambient, inheritable } = capabilitiesOf(context, AVAILABLE);
  assertEquals([ambient, inheritable], [["CAP_NET_RAW"], ["CAP_NET_RAW"]]);
});

Deno.test("capabilitiesOf() leaves out what is no capability, added or dropped", () => {
  assertEquals(granted(["FLY"], []), USUAL);
  assertEquals(granted([], ["FLY", "CHOWN"]), USUAL.filter((name) => name !== "CHOWN"));
});
