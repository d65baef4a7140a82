import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../base/error.ts";
import { knownLogins } from "./clusters.ts";
import { formatTable } from "./jobs.ts";

Deno.test("formatTable() puts columns side by side and lets nothing steer the terminal", () => {
  assertEquals(
    formatTable([["A", "BB", "C"], ["long", "\x1b[2J", "x\u202e"], ["é", "", ""]]),
    ["A     BB    C", "long  ?[2J  x?", "é"],
  );
});

const KEPT = { login: { host: "h", port: 22, user: "u", password: "p" } };
const CLUSTERS = {
  allowed: [],
  named: new Map([["hpc", { ...KEPT, namespaces: undefined, prerun: false }]]),
  defaultName: undefined,
};

Deno.test("knownLogins() joins the node's with the environment's", () => {
  assertEquals([...knownLogins(CLUSTERS, () => undefined).keys()], ["hpc"]);
  const env: Record<string, string> = {
    CLUSTER_HOST: "login",
    CLUSTER_USERNAME: "v",
    CLUSTER_PASSWORD: "secret",
  };
  assertEquals(knownLogins(CLUSTERS, (name) => env[name]).get("env"), {
    host: "login",
    port: 22,
    user: "v",
    password: "secret",
  });
});

Deno.test("knownLogins() refuses half a login", () => {
  const env = (name: string) => name === "CLUSTER_HOST" ? "login" : undefined;
  assertThrows(() => knownLogins(CLUSTERS, env), CriError, "CLUSTER_USERNAME must be set");
});
