import { createPrivateKey } from "node:crypto";
import { Buffer } from "node:buffer";
// @ts-types="@types/ssh2"
import { type ParsedKey, utils } from "ssh2";
import { CriError, messageOf } from "../../base/error.ts";
import { encodeOpenSshKey } from "./openssh_key.ts";

/** The largest key in use (RSA 16384) takes 13 kB; more is not a key. */
const MAX_KEY_CHARACTERS = 64 * 1024;

/** How a refusal ends. */
const ADVICE = "make one with `ssh-keygen -t ed25519`";

/**
 * Turns the text of a private key, as it comes out of a secret, into one that ssh2 reads and that
 * signs here. Accepted are OpenSSH, PEM (PKCS#1, SEC1) and PKCS#8 of ed25519, RSA and ECDSA keys, with
 * or without a passphrase, whose newlines are real, CRLF, the two characters `\n` or lost (folded into
 * blanks), or whose text is base64 as a whole.
 *
 * The result is the same key without its passphrase, for ssh2 (OpenSSH may not read it): keep it in
 * memory only. It may be given here again. Opening one with a passphrase takes the processor about a
 * quarter of a second.
 * @throws CriError INVALID_ARGUMENT when there is no such key in the text, the passphrase does not fit,
 * or the key does not sign.
 */
export function parsePrivateKey(text: string, passphrase?: string): string {
  if (text.length > MAX_KEY_CHARACTERS) {
    throw refusal(`it must be at most ${MAX_KEY_CHARACTERS} characters: it has ${text.length}`);
  }
  const pem = restoreNewlines(text);
  const key = rewrite(pem, passphrase);
  assertSigns(key);
  return key;
}

/**
 * A key that `parsePrivateKey` gave, as OpenSSH's own programs read it: of an ECDSA number in their format they take
 * the shortest form only, and of its full length about every second one for a negative number.
 */
export function keyForOpenSsh(key: string): string {
  const parsed = parseBySsh2(key, undefined);
  return parsed.type.startsWith("ecdsa-") ? parsed.getPrivatePEM() : key;
}

/** Undoes what YAML, JSON and shells do to the newlines of a PEM text. */
function restoreNewlines(text: string): string {
  let pem = text.trim().replace(/^(["'])([\s\S]*)\1$/, "$2").trim();
  if (!pem.includes("-----BEGIN ") && /^[A-Za-z0-9+/=\s]+$/.test(pem)) {
    try {
      pem = new TextDecoder().decode(Uint8Array.fromBase64(pem)).trim();
    } catch {
      // Not base64 either: the check below says what is wrong.
    }
  }
  pem = pem.replaceAll("\\r", "").replaceAll("\\n", "\n").replaceAll("\r\n", "\n").trim();
  const match = /^-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----([\s\S]*)-----END \1-----$/.exec(pem);
  if (match === null) {
    throw refusal(
      "it must start with `-----BEGIN … PRIVATE KEY-----` and end with `-----END … PRIVATE KEY-----`",
    );
  }
  const [, label, body = ""] = match;
  // An encrypted PKCS#1 or SEC1 text has header lines, which cannot be told apart once folded.
  const lines = body.includes(":") ? body.trim() : body.replaceAll(/\s/g, "").replaceAll(
    /.{1,64}/g,
    "$&\n",
  ).trim();
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}

/**
 * Writes a key anew: ssh2 cannot read PKCS#8, and signing on Deno fails with PEM texts that have a
 * passphrase and with ECDSA numbers of another length in the file than their curve's.
 */
function rewrite(pem: string, passphrase: string | undefined): string {
  if (!pem.startsWith("-----BEGIN OPENSSH ")) return rewriteByNode(pem, passphrase);
  const key = parseBySsh2(pem, passphrase);
  const curve = /^ecdsa-sha2-(nistp\d+)$/.exec(key.type)?.[1];
  // ssh2 gives the key in the form it would sign with, PKCS#8, PKCS#1 or SEC1.
  if (curve === undefined) return rewriteByNode(key.getPrivatePEM(), undefined);
  return encodeOpenSshKey({
    type: key.type,
    curve,
    publicPoint: lastString(key.getPublicSSH()),
    scalar: sec1Scalar(key.getPrivatePEM()),
  });
}

function rewriteByNode(pem: string, passphrase: string | undefined): string {
  let key;
  try {
    key = createPrivateKey({ key: pem, ...(passphrase === undefined ? {} : { passphrase }) });
  } catch (error) {
    throw refusal(`it must be a key that its passphrase opens: ${messageOf(error)}`, error);
  }
  if (key.asymmetricKeyType === "rsa") {
    return key.export({ type: "pkcs1", format: "pem" }).toString();
  }
  if (key.asymmetricKeyType !== "ed25519" && key.asymmetricKeyType !== "ec") {
    throw refusal(`it must be an ed25519, RSA or ECDSA key: it is ${key.asymmetricKeyType}`);
  }
  const jwk = key.export({ format: "jwk" });
  const [d, x, y] = [jwk.d, jwk.x, jwk.y].map((field) => Buffer.from(field ?? "", "base64url"));
  if (key.asymmetricKeyType === "ed25519" && d && x) {
    return encodeOpenSshKey({ type: "ssh-ed25519", seed: d, publicKey: x });
  }
  const curve = /^P-(256|384|521)$/.exec(jwk.crv ?? "")?.[1];
  if (curve !== undefined && d && x && y) {
    return encodeOpenSshKey({
      type: `ecdsa-sha2-nistp${curve}`,
      curve: `nistp${curve}`,
      publicPoint: Buffer.concat([Uint8Array.of(4), x, y]),
      scalar: d,
    });
  }
  throw refusal(`its curve must be P-256, P-384 or P-521: it is ${jwk.crv}`);
}

function parseBySsh2(pem: string, passphrase: string | undefined): ParsedKey {
  let parsed: ParsedKey | ParsedKey[] | Error;
  try {
    parsed = utils.parseKey(pem, passphrase);
  } catch (error) {
    parsed = error instanceof Error ? error : new Error(String(error));
  }
  const key = Array.isArray(parsed) ? parsed[0] : parsed;
  if (key === undefined || key instanceof Error) {
    throw refusal(`it must be a key that its passphrase opens: ${messageOf(key)}`, key);
  }
  return key;
}

/** The last length-prefixed string of a public key in SSH wire format: for ECDSA, the point. */
function lastString(wire: Uint8Array): Uint8Array {
  const view = new DataView(wire.buffer, wire.byteOffset, wire.length);
  let start = 0;
  let end = 0;
  while (end < wire.length) {
    start = end + 4;
    end = start + view.getUint32(end);
  }
  return wire.subarray(start, end);
}

/** The private number in a SEC1 text (RFC 5915): SEQUENCE { INTEGER 1, OCTET STRING number, … }. */
function sec1Scalar(pem: string): Uint8Array {
  const der = Uint8Array.fromBase64(pem.replaceAll(/-----[^-]+-----|\s/g, ""));
  const sequenceHeaderBytes = (der[1] ?? 0) >= 0x80 ? 2 + (der[1] ?? 0) - 0x80 : 2;
  // Behind the header stand 02 01 01 (the version) and 04 LENGTH (a curve's number is under 128 bytes).
  const start = sequenceHeaderBytes + 3 + 2;
  return der.subarray(start, start + (der[start - 1] ?? 0));
}

/** A key that parses may still be of a kind that cannot sign here: better known now than at a login. */
function assertSigns(pem: string): void {
  const key = parseBySsh2(pem, undefined);
  const probe = Buffer.from("multicri");
  let signature: Buffer | Error;
  try {
    signature = key.sign(probe);
  } catch (error) {
    signature = error instanceof Error ? error : new Error(String(error));
  }
  if (signature instanceof Error || key.verify(probe, signature) !== true) {
    const reason = signature instanceof Error ? `: ${messageOf(signature)}` : "";
    throw refusal(`it must be able to sign, and this ${key.type} key is not${reason}`);
  }
}

function refusal(reason: string, cause?: unknown): CriError {
  return new CriError(
    "INVALID_ARGUMENT",
    `Cannot use the private key for the cluster as ${reason}; ${ADVICE}`,
    { cause },
  );
}
