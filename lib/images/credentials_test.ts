import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { CriError } from "../base/error.ts";
import { AuthConfig } from "../cri/api.generated.ts";
import { credentialsFor, whyNotSent } from "./credentials.ts";

type Auth = Partial<AuthConfig>;

/** `user:password` in base64. */
const LOGIN = "dXNlcjpwYXNzd29yZA==";
const USER = { username: "user", password: "password" };

const SENT: readonly [
  registry: string,
  prefixed: boolean,
  auth: Auth | undefined,
  sent: string | undefined,
][] = [
  ["r.example", false, undefined, undefined],
  ["r.example", false, {}, undefined],
  ["r.example", false, USER, LOGIN],
  ["r.example", false, { auth: LOGIN }, LOGIN],
  ["r.example", false, { auth: LOGIN, username: "other", password: "x" }, LOGIN],
  ["r.example", false, { username: "ü", password: "→" }, "w7w64oaS"],
  // What the kubelet looked up for docker.io goes nowhere else.
  ["r.example", true, USER, undefined],
  ["r.example:5000", true, USER, undefined],
  ["docker.io.evil.example", true, USER, undefined],
  ["docker.io", true, USER, LOGIN],
  // A client that says which server is meant is believed, for that server.
  ["r.example", true, { ...USER, serverAddress: "r.example" }, LOGIN],
  ["r.example", true, { ...USER, serverAddress: "https://r.example/v2/" }, LOGIN],
  ["r.example:5000", true, { ...USER, serverAddress: "http://r.example:5000" }, LOGIN],
  ["r.example", false, { ...USER, serverAddress: "r.example:5000" }, undefined],
  ["r.example", false, { ...USER, serverAddress: "other.example" }, undefined],
  ["r.example", false, { ...USER, serverAddress: "https://index.docker.io/v1/" }, undefined],
  ["docker.io", true, { ...USER, serverAddress: "https://index.docker.io/v1/" }, LOGIN],
  ["docker.io", false, { ...USER, serverAddress: "registry-1.docker.io" }, LOGIN],
  ["docker.io", false, { ...USER, serverAddress: "docker.io" }, LOGIN],
  ["docker.io", false, { ...USER, serverAddress: "evil.example/docker.io" }, undefined],
];

for (const [registry, prefixed, auth, sent] of SENT) {
  Deno.test(`credentialsFor() sends ${sent ? "them" : "none"} to ${registry} when given ${JSON.stringify([prefixed, auth])}`, () => {
    const config = auth === undefined ? undefined : AuthConfig.fromPartial(auth);
    const wanted = sent === undefined ? undefined : { auth: sent };
    assertEquals(credentialsFor(registry, prefixed, config), wanted);
  });
}

for (const [username, auth] of [["", "PHRva2VuPjo="], ["ü→", "w7zihpI6"]] as const) {
  Deno.test(`credentialsFor() passes an identity token of '${username}' on`, () => {
    const config = AuthConfig.fromPartial({ username, identityToken: "token" });
    assertEquals(credentialsFor("r.example", false, config), { auth, identitytoken: "token" });
  });
}

const BEARERS: readonly [prefixed: boolean, auth: Auth, sent: boolean][] = [
  [false, { registryToken: "eyJ.a-b_c~d+/e==" }, true],
  [false, { registryToken: "token", username: "u", password: "p" }, true],
  [false, { registryToken: "token", serverAddress: "other.example" }, false],
  [true, { registryToken: "token" }, false],
];

for (const [prefixed, auth, sent] of BEARERS) {
  Deno.test(`credentialsFor() sends ${sent ? "the" : "no"} bearer token when given ${JSON.stringify([prefixed, auth])}`, () => {
    const wanted = sent ? { registryToken: auth.registryToken ?? "" } : undefined;
    assertEquals(credentialsFor("r.example", prefixed, AuthConfig.fromPartial(auth)), wanted);
  });
}

for (
  const auth of ["%%%", "dXNlcg==", "secret", "user:password"]
) {
  Deno.test(`credentialsFor() refuses the auth ${JSON.stringify(auth)} without repeating it`, () => {
    const config = AuthConfig.fromPartial({ auth });
    const error = assertThrows(() => credentialsFor("r.example", false, config), CriError);
    const repeats = error.message.replace('"user:password"', "").includes(auth);
    assertEquals([error.code, repeats], ["INVALID_ARGUMENT", false]);
  });
}

const WITHHELD: readonly [
  registry: string,
  prefixed: boolean,
  auth: Auth,
  why: string | undefined,
][] = [
  ["r.example", true, USER, "they go to docker.io only; write the name without it"],
  ["r.example", true, { registryToken: "t" }, "docker.io only"],
  ["r.example", false, { ...USER, serverAddress: "https://other.example/v2" }, '"other.example"'],
  ["r.example", false, USER, undefined],
  ["docker.io", true, USER, undefined],
  ["r.example", true, {}, undefined],
];

for (const [registry, prefixed, auth, why] of WITHHELD) {
  Deno.test(`whyNotSent() ${why ? "says why" : "says nothing"} when ${registry} is given ${JSON.stringify([prefixed, auth])}`, () => {
    const reason = whyNotSent(registry, prefixed, AuthConfig.fromPartial(auth));
    if (why === undefined) assertEquals(reason, undefined);
    else assertStringIncludes(reason ?? "", why);
  });
}

for (const registryToken of ["bearer secret", "bearer\r\nsecret", "secret→", "=secret"]) {
  Deno.test(`credentialsFor() refuses the bearer token ${JSON.stringify(registryToken)} without repeating it`, () => {
    const auth = AuthConfig.fromPartial({ registryToken });
    const error = assertThrows(() => credentialsFor("r.example", false, auth), CriError);
    assertEquals([error.code, error.message.includes("secret")], ["INVALID_ARGUMENT", false]);
  });
}
