import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { generateKeyPairSync, type KeyObject } from "node:crypto";
// @ts-types="@types/ssh2"
import { type ParsedKey, utils } from "ssh2";
import { parsePrivateKey } from "./private_key.ts";
import { assertFails } from "./test_session.ts";

const PASSPHRASE = "correct horse";

interface Kind {
  kind: string;
  make: () => string;
  passphrase?: string;
}

function exported(key: KeyObject, type: "pkcs1" | "pkcs8" | "sec1", passphrase?: string): string {
  const encryption = passphrase === undefined ? {} : { cipher: "aes-256-cbc", passphrase };
  return key.export({ type, format: "pem", ...encryption }).toString();
}

const rsa = () => generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
const ec = (namedCurve: string) => generateKeyPairSync("ec", { namedCurve }).privateKey;
const ed25519 = () => generateKeyPairSync("ed25519").privateKey;
const encrypted = { passphrase: PASSPHRASE, cipher: "aes256-ctr", rounds: 4 } as const;

/** By ssh2, which spoils one in 256: it drops a leading zero of the public key. */
function openSshEd25519(encryption?: typeof encrypted): string {
  for (;;) {
    const { private: pem } = encryption === undefined
      ? utils.generateKeyPairSync("ed25519")
      : utils.generateKeyPairSync("ed25519", encryption);
    if (!(utils.parseKey(pem, encryption?.passphrase) instanceof Error)) return pem;
  }
}

const KINDS: Kind[] = [
  { kind: "OpenSSH ed25519", make: () => openSshEd25519() },
  {
    kind: "encrypted OpenSSH ed25519",
    make: () => openSshEd25519(encrypted),
    passphrase: PASSPHRASE,
  },
  { kind: "OpenSSH RSA", make: () => utils.generateKeyPairSync("rsa", { bits: 2048 }).private },
  ...([256, 384, 521] as const).map((bits): Kind => ({
    kind: `OpenSSH ECDSA ${bits}`,
    make: () => utils.generateKeyPairSync("ecdsa", { bits }).private,
  })),
  {
    kind: "encrypted OpenSSH ECDSA 256",
    make: () => utils.generateKeyPairSync("ecdsa", { bits: 256, ...encrypted }).private,
    passphrase: PASSPHRASE,
  },
  { kind: "PEM RSA", make: () => exported(rsa(), "pkcs1") },
  { kind: "PKCS#8 RSA", make: () => exported(rsa(), "pkcs8") },
  {
    kind: "encrypted PEM RSA",
    make: () => exported(rsa(), "pkcs1", PASSPHRASE),
    passphrase: PASSPHRASE,
  },
  {
    kind: "encrypted PEM ECDSA P-256",
    make: () => exported(ec("P-256"), "sec1", PASSPHRASE),
    passphrase: PASSPHRASE,
  },
  {
    kind: "encrypted PKCS#8 ed25519",
    make: () => exported(ed25519(), "pkcs8", PASSPHRASE),
    passphrase: PASSPHRASE,
  },
  { kind: "PKCS#8 ed25519", make: () => exported(ed25519(), "pkcs8") },
  ...["P-256", "P-384", "P-521"].flatMap((curve): Kind[] => [
    { kind: `PEM ECDSA ${curve}`, make: () => exported(ec(curve), "sec1") },
    { kind: `PKCS#8 ECDSA ${curve}`, make: () => exported(ec(curve), "pkcs8") },
  ]),
];

/** Each key of a kind has its own number, and about half have a leading zero in OpenSSH's format. */
const KEYS_OF_A_KIND = 6;

function signs(pem: string): boolean {
  const key = utils.parseKey(pem) as ParsedKey;
  const data = Buffer.from("data");
  return key.verify(data, key.sign(data) as Buffer) === true;
}

for (const { kind, make, passphrase } of KINDS) {
  Deno.test(`parsePrivateKey() gives a key that signs when it is ${kind}`, () => {
    const keys = kind.includes("ECDSA") ? KEYS_OF_A_KIND : 1;
    for (let count = 0; count < keys; count++) {
      const text = make();
      assert(signs(parsePrivateKey(text, passphrase)), text.split("\n")[0]);
    }
  });
}

Deno.test("parsePrivateKey() keeps the key when it writes it anew", () => {
  const key = ec("P-256");
  const [pem, pkcs8] = [exported(key, "sec1"), exported(key, "pkcs8")];
  const again = parsePrivateKey(pkcs8);
  assertEquals(parsePrivateKey(pem), again);
  assertEquals(parsePrivateKey(again), again);
});

const FORMS: { form: string; change: (pem: string) => string }[] = [
  { form: "CRLF", change: (pem) => pem.replaceAll("\n", "\r\n") },
  { form: "the characters \\n", change: (pem) => pem.replaceAll("\n", "\\n") },
  { form: "the characters \\r\\n", change: (pem) => pem.replaceAll("\n", "\\r\\n") },
  { form: "blanks", change: (pem) => pem.trim().replaceAll("\n", " ") },
  { form: "nothing", change: (pem) => pem.replaceAll("\n", "") },
  { form: "newlines, but quoted", change: (pem) => `"${pem}"` },
  { form: "newlines, but indented", change: (pem) => pem.replaceAll(/^/gm, "    ") },
  { form: "newlines, but as base64 of the whole", change: (pem) => btoa(pem) },
  {
    form: "newlines, but as wrapped base64",
    change: (pem) => btoa(pem).replaceAll(/.{76}/g, "$&\n"),
  },
];

for (const { form, change } of FORMS) {
  Deno.test(`parsePrivateKey() restores a key when its newlines are ${form}`, () => {
    for (
      const pem of [
        openSshEd25519(),
        exported(rsa(), "pkcs1"),
      ]
    ) {
      assertEquals(parsePrivateKey(change(pem)), parsePrivateKey(pem));
    }
  });
}

const REFUSALS: { when: string; text: () => string; passphrase?: string; message: RegExp }[] = [
  { when: "it is empty", text: () => "", message: /must start with `-----BEGIN/ },
  { when: "it is no key", text: () => "hunter2", message: /must start with `-----BEGIN/ },
  {
    when: "it is a public key",
    text: () => utils.generateKeyPairSync("ed25519").public,
    message: /must start with `-----BEGIN/,
  },
  {
    when: "it is a PEM public key",
    text: () =>
      generateKeyPairSync("ed25519").publicKey.export({ type: "spki", format: "pem" }).toString(),
    message: /must start with `-----BEGIN … PRIVATE KEY-----`/,
  },
  {
    when: "its end is missing",
    text: () => openSshEd25519().slice(0, 200),
    message: /must start with .* and end with/,
  },
  {
    when: "its middle is missing",
    text: () => openSshEd25519().replace(/\n.*\n.*\n/, "\n"),
    message: /must be a key that its passphrase opens/,
  },
  {
    when: "its passphrase is missing",
    text: () => openSshEd25519(encrypted),
    message: /must be a key that its passphrase opens/,
  },
  {
    when: "its passphrase is wrong",
    text: () => openSshEd25519(encrypted),
    passphrase: "wrong",
    message: /must be a key that its passphrase opens/,
  },
  {
    when: "it is of a curve that ssh does not know",
    text: () => exported(ec("secp256k1"), "pkcs8"),
    message: /must be/,
  },
  { when: "it is endless", text: () => "A".repeat(70_000), message: /at most 65536 characters/ },
];

for (const { when, text, passphrase, message } of REFUSALS) {
  Deno.test(`parsePrivateKey() refuses a text, without telling it, when ${when}`, async () => {
    const refused = text();
    const error = await assertFails(
      () => Promise.resolve().then(() => parsePrivateKey(refused, passphrase)),
      "INVALID_ARGUMENT",
      message,
    );
    for (const line of refused.split("\n").filter((line) => line && !line.startsWith("-----"))) {
      assert(!error.message.includes(line), error.message);
    }
  });
}
