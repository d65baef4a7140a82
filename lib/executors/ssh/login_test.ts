import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { type ClusterLogin, loginKey, loginName } from "./login.ts";

const LOGIN: ClusterLogin = { host: "login.example", port: 22, user: "ada", password: "hunter2" };

const NAMES = [
  { login: LOGIN, name: "ada@login.example:22" },
  { login: { ...LOGIN, host: "2001:db8::1", port: 2222 }, name: "ada@[2001:db8::1]:2222" },
];
for (const { login, name } of NAMES) {
  Deno.test(`loginName() gives ${name} when host is ${login.host}`, () => {
    assertEquals(loginName(login), name);
  });
}

const OTHERS: { differs: string; login: ClusterLogin }[] = [
  { differs: "host", login: { ...LOGIN, host: "login2.example" } },
  { differs: "port", login: { ...LOGIN, port: 2222 } },
  { differs: "user", login: { ...LOGIN, user: "bob" } },
  { differs: "password", login: { ...LOGIN, password: "hunter3" } },
  { differs: "key", login: { ...LOGIN, privateKey: "key" } },
  { differs: "passphrase", login: { ...LOGIN, passphrase: "phrase" } },
  { differs: "password's absence", login: { host: "login.example", port: 22, user: "ada" } },
];
for (const { differs, login } of OTHERS) {
  Deno.test(`loginKey() tells logins apart when the ${differs} differs`, () => {
    assertNotEquals(loginKey(login), loginKey(LOGIN));
  });
}

Deno.test("loginKey() tells secrets apart when they are the same text cut elsewhere", () => {
  assertNotEquals(
    loginKey({ ...LOGIN, password: "ab", privateKey: "c" }),
    loginKey({ ...LOGIN, password: "a", privateKey: "bc" }),
  );
});

Deno.test("loginKey() is equal, and holds no secret, when logins are", () => {
  assertEquals(loginKey({ ...LOGIN }), loginKey(LOGIN));
  assert(!loginKey(LOGIN).includes("hunter2"));
});
