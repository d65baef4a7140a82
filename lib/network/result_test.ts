import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../base/error.ts";
import type { JsonObject } from "./json.ts";
import { interfaceAddresses, inVersion, parseResult } from "./result.ts";
import type { CniVersion } from "./versions.ts";

const DNS = { nameservers: ["192.0.2.53"] };

/** One network in the three shapes that results have had. */
const OLDEST: JsonObject = {
  ip4: { ip: "192.0.2.2/24", gateway: "192.0.2.1", routes: [{ dst: "0.0.0.0/0" }] },
  ip6: { ip: "2001:db8::2/64", routes: [{ dst: "::/0", gw: "2001:db8::1" }] },
  dns: DNS,
};
const ROUTES = [{ dst: "0.0.0.0/0" }, { dst: "::/0", gw: "2001:db8::1" }];
const V4 = { address: "192.0.2.2/24", gateway: "192.0.2.1" };
const V6 = { address: "2001:db8::2/64" };
const POD = { name: "eth0", mac: "02:00:00:00:00:01", sandbox: "/ns" };
const OLD: JsonObject = {
  interfaces: [{ name: "veth1" }, POD],
  ips: [{ version: "4", ...V4, interface: 1 }, { version: "6", ...V6, interface: 1 }],
  routes: ROUTES,
  dns: DNS,
};
const NEW: JsonObject = {
  interfaces: [{ name: "veth1" }, POD],
  ips: [{ ...V4, interface: 1 }, { ...V6, interface: 1 }],
  routes: ROUTES,
  dns: DNS,
};
/** What comes from the oldest shape knows no interfaces. */
const WITHOUT_INTERFACES: JsonObject = { ips: [V4, V6], routes: ROUTES, dns: DNS };

const CONVERSIONS: readonly [
  from: CniVersion,
  json: JsonObject,
  to: CniVersion,
  told: JsonObject,
][] = [
  ["0.1.0", OLDEST, "0.1.0", OLDEST],
  ["0.1.0", OLDEST, "0.2.0", OLDEST],
  ["0.2.0", OLDEST, "1.1.0", WITHOUT_INTERFACES],
  ["0.2.0", OLDEST, "0.4.0", {
    ...WITHOUT_INTERFACES,
    interfaces: [],
    ips: [{ version: "4", ...V4 }, { version: "6", ...V6 }],
  }],
  ["0.3.0", OLD, "0.3.1", OLD],
  ["0.3.1", OLD, "0.4.0", OLD],
  ["0.4.0", OLD, "0.2.0", OLDEST],
  ["0.4.0", OLD, "1.0.0", NEW],
  ["0.3.1", OLD, "1.1.0", NEW],
  ["1.0.0", NEW, "1.1.0", NEW],
  ["1.1.0", NEW, "1.0.0", NEW],
  ["1.1.0", NEW, "0.3.1", OLD],
  ["1.0.0", NEW, "0.4.0", OLD],
  ["1.1.0", NEW, "0.1.0", OLDEST],
  ["1.1.0", { ...NEW, vendor: 1 }, "1.1.0", { ...NEW, vendor: 1 }],
  [
    "1.1.0",
    { ...NEW, interfaces: [{ name: "veth1", mtu: 1500 }, { ...POD, pciID: "0000:01:00.0" }] },
    "0.4.0",
    OLD,
  ],
];

for (const [from, json, to, told] of CONVERSIONS) {
  Deno.test(`inVersion() says the same when a result of CNI ${from} with ${Object.keys(json)} is told in ${to}`, () => {
    const result = parseResult(JSON.stringify({ cniVersion: from, ...json }), "1.1.0", "bridge");
    assertEquals(inVersion(result, to), { cniVersion: to, ...told });
  });
}

Deno.test("inVersion() refuses a result without an address when the plugin is older than 0.3.0", () => {
  const result = parseResult('{"cniVersion": "1.0.0"}', "1.0.0", "bridge");
  assertThrows(() => inVersion(result, "0.2.0"), CriError, "without an address");
});

const ADDRESSES: readonly [name: string, json: JsonObject, addresses: string[]][] = [
  ["there are both families", NEW, ["192.0.2.2", "2001:db8::2"]],
  ["the plugin names IPv6 first", { ...NEW, ips: [{ ...V6 }, { ...V4 }] }, [
    "192.0.2.2",
    "2001:db8::2",
  ]],
  ["there is IPv6 alone", { ips: [V6] }, ["2001:db8::2"]],
  ["another interface has addresses too", {
    ...NEW,
    ips: [{ address: "198.51.100.1/32", interface: 0 }, { ...V4, interface: 1 }],
  }, ["192.0.2.2"]],
  ["the interface is null, as Go writes it", { ips: [{ ...V4, interface: null }] }, ["192.0.2.2"]],
  ["lists are null, as Go writes them", { ips: null, interfaces: null, routes: null }, []],
];

for (const [name, json, addresses] of ADDRESSES) {
  Deno.test(`interfaceAddresses() finds ${addresses.length} when ${name}`, () => {
    const result = parseResult(JSON.stringify(json), "1.1.0", "bridge");
    assertEquals(interfaceAddresses(result, "eth0"), addresses);
  });
}

Deno.test("parseResult() takes the configuration's version when the plugin names none", () => {
  const texts = [JSON.stringify(OLD), JSON.stringify({ ...OLD, cniVersion: "" })];
  assertEquals(texts.map((text) => parseResult(text, "0.4.0", "bridge").cniVersion), [
    "0.4.0",
    "0.4.0",
  ]);
});

const NO_RESULTS: readonly [text: string, words: string][] = [
  ["", "Unexpected end"],
  ["Segmentation fault", 'began with "Segmentation fault"'],
  ["[]", "it is no object"],
  ["null", "it is no object"],
  ['{"cniVersion": "9.0.0"}', 'its version is "9.0.0"'],
  ['{"cniVersion": 1}', "its version is 1"],
  ['{"ips": 1}', "addresses are no list"],
  ['{"ips": [1]}', "addresses are no list"],
  ['{"ips": [{}]}', "the address undefined"],
  ['{"ips": [{"address": "10.0.0.300/8"}]}', 'the address "10.0.0.300/8"'],
  ['{"ips": [{"address": "10.0.0.1/8", "interface": 0}]}', "interface number 0"],
  ['{"interfaces": {}}', "interfaces are no list"],
  ['{"routes": [0]}', "routes are no list"],
  ['{"cniVersion": "0.2.0", "ip4": {}}', "the address undefined"],
];

for (const [text, words] of NO_RESULTS) {
  Deno.test(`parseResult() names the plugin when it answers ${JSON.stringify(text)}`, () => {
    const error = assertThrows(() => parseResult(text, "1.1.0", "bridge"), CriError, words);
    assertEquals([error.code, error.message.includes("plugin bridge")], [
      "FAILED_PRECONDITION",
      true,
    ]);
  });
}
