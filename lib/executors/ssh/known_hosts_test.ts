import { assertEquals } from "@std/assert";
import { findKnownHosts, fingerprint, formatKnownHost, keyType } from "./known_hosts.ts";

/** A key's wire format with the fewest bytes that have a type; no real key. */
function wireKey(type: string, ...rest: number[]): Uint8Array {
  const name = new TextEncoder().encode(type);
  return Uint8Array.of(0, 0, 0, name.length, ...name, ...rest);
}
const KEY = wireKey("ssh-ed25519", 1, 2, 3);
const BASE64 = KEY.toBase64();

/** What `ssh-keygen -H` made of the names login.example and [login.example]:2222. */
const HASH22 = "/d/hhHi6PvCKPSqxM9ijesY4PhE=|6AyzemarcVa4+VPNpqvRYOnhS4Y=";
const HASH2222 = "gJek4+XnSav07NyXwRyVjQLbpfo=|l1uRPFCts++bU4FBhae/aI7Xffk=";

/** A public key of ssh-keygen, and what its `-l` says of it. */
const REAL_KEY = "AAAAC3NzaC1lZDI1NTE5AAAAICPqfSRPrqyneTIo2KPR0bQWJFdGuSSLm9Yon1ZeBrE5";
const REAL_FINGERPRINT = "SHA256:ZpJvby35gC7PRnTcGZOFj/Pj3MJ5Pjye6dD9yaexXuk";

const MATCHES: { when: string; line: string; host?: string; port?: number; found: boolean }[] = [
  { when: "the name is written plainly", line: "login.example ssh-ed25519 KEY", found: true },
  { when: "the name differs in case", line: "Login.EXAMPLE ssh-ed25519 KEY", found: true },
  { when: "another name is there", line: "login2.example ssh-ed25519 KEY", found: false },
  { when: "it is in a list", line: "a,login.example,10.0.0.1 ssh-ed25519 KEY", found: true },
  { when: "a star stands for a part", line: "*.example ssh-ed25519 KEY", found: true },
  {
    when: "a question mark stands for a letter",
    line: "log?n.example ssh-ed25519 KEY",
    found: true,
  },
  { when: "a dot is no wildcard", line: "loginxexample ssh-ed25519 KEY", found: false },
  { when: "the name is ruled out", line: "*.example,!login.* ssh-ed25519 KEY", found: false },
  {
    when: "fields are set apart by tabs",
    line: "\tlogin.example\tssh-ed25519\tKEY\tnote",
    found: true,
  },
  { when: "the line is a comment", line: "# login.example ssh-ed25519 KEY", found: false },
  { when: "the line is empty", line: "", found: false },
  {
    when: "port 22 meets another port",
    line: "login.example ssh-ed25519 KEY",
    port: 2222,
    found: false,
  },
  {
    when: "a port is written",
    line: "[login.example]:2222 ssh-ed25519 KEY",
    port: 2222,
    found: true,
  },
  {
    when: "a written port meets port 22",
    line: "[login.example]:2222 ssh-ed25519 KEY",
    found: false,
  },
  {
    when: "brackets are no wildcard",
    line: "[login.example]:2222 ssh-ed25519 KEY",
    host: "l",
    port: 2222,
    found: false,
  },
  {
    when: "the name is hashed",
    line: "|1|HASH22 ssh-ed25519 KEY",
    found: true,
  },
  { when: "another name is hashed", line: "|1|HASH22 ssh-ed25519 KEY", host: "b", found: false },
  {
    when: "name and port are hashed",
    line: "|1|HASH2222 ssh-ed25519 KEY",
    port: 2222,
    found: true,
  },
  { when: "the hash is of a kind unknown", line: "|2|HASH22 ssh-ed25519 KEY", found: false },
  { when: "the hash is broken", line: "|1|*|* ssh-ed25519 KEY", found: false },
];

for (const { when, line, host, port, found } of MATCHES) {
  Deno.test(`findKnownHosts() ${found ? "finds" : "leaves out"} a line when ${when}`, () => {
    const text = line
      .replace("KEY", BASE64)
      .replace("HASH2222", HASH2222)
      .replace("HASH22", HASH22);
    const entries = findKnownHosts(`# first\n${text}\r\n`, host ?? "login.example", port ?? 22);
    assertEquals(
      entries,
      found ? [{ lineNumber: 2, marker: "", type: "ssh-ed25519", key: KEY }] : [],
    );
  });
}

Deno.test("findKnownHosts() keeps markers when a key is revoked or an authority's", () => {
  const text = `@revoked * ssh-ed25519 ${BASE64}\n@cert-authority * ssh-ed25519 ${BASE64}\n`;
  assertEquals(findKnownHosts(text, "h", 22).map((entry) => entry.marker), [
    "@revoked",
    "@cert-authority",
  ]);
});

const BROKEN = [
  { when: "its base64 is broken", line: "h ssh-ed25519 AAAA!" },
  { when: "its type is not the key's", line: `h ssh-rsa ${BASE64}` },
  { when: "there is none", line: "h ssh-ed25519" },
];
for (const { when, line } of BROKEN) {
  Deno.test(`findKnownHosts() finds a line without a usable key when ${when}`, () => {
    assertEquals(findKnownHosts(line, "h", 22).map((entry) => entry.key), [undefined]);
  });
}

Deno.test("formatKnownHost() writes a line that is found again when host and port are any", () => {
  for (
    const [host, port] of [["h", 22], ["h", 2222], ["2001:db8::1", 22], ["::1", 22022]] as const
  ) {
    const line = formatKnownHost(host, port, KEY);
    assertEquals(findKnownHosts(line, host, port)[0]?.key, KEY, line);
  }
});

Deno.test("fingerprint() is what ssh-keygen -l shows when a key is a real one", () => {
  assertEquals(fingerprint(Uint8Array.fromBase64(REAL_KEY)), REAL_FINGERPRINT);
  assertEquals(keyType(Uint8Array.fromBase64(REAL_KEY)), "ssh-ed25519");
});

Deno.test("keyType() is empty when a key is too short to have one", () => {
  assertEquals(keyType(Uint8Array.of(0, 0)), "");
});
