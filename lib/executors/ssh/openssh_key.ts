import { Buffer } from "node:buffer";

/** The numbers of a private key, apart from RSA. */
export type KeyNumbers =
  | { type: "ssh-ed25519"; seed: Uint8Array; publicKey: Uint8Array }
  | {
    /** `ecdsa-sha2-` and the curve. */
    type: string;
    /** `nistp256`, `nistp384` or `nistp521`. */
    curve: string;
    /** 0x04, x, y (SEC1, uncompressed). */
    publicPoint: Uint8Array;
    /** The private number, big-endian, with or without leading zeros. */
    scalar: Uint8Array;
  };

/**
 * Writes an unencrypted private key in OpenSSH's format (PROTOCOL.key), except that an ECDSA number
 * gets the full length of its curve instead of the shortest one: readers take it as is, and signers that
 * insist on the full length work with every key.
 */
export function encodeOpenSshKey(numbers: KeyNumbers): string {
  const publicFields = "seed" in numbers
    ? [string(numbers.type), string(numbers.publicKey)]
    : [string(numbers.type), string(numbers.curve), string(numbers.publicPoint)];
  const privateField = "seed" in numbers
    ? string(Buffer.concat([numbers.seed, numbers.publicKey]))
    : string(padLeft(numbers.scalar, (numbers.publicPoint.length - 1) / 2));
  // Two equal numbers show a reader that decryption went well; nothing is encrypted here.
  const checks = new Uint8Array(8);
  const comment = string("");
  const secret = Buffer.concat([checks, ...publicFields, privateField, comment]);
  const padding = Uint8Array.from(
    { length: (8 - secret.length % 8) % 8 },
    (_, index) => index + 1,
  );
  const blob = Buffer.concat([
    Buffer.from("openssh-key-v1\0", "latin1"),
    string("none"), // cipher
    string("none"), // key derivation
    string(""), // its options
    uint32(1), // number of keys
    string(Buffer.concat(publicFields)),
    string(Buffer.concat([secret, padding])),
  ]);
  const lines = blob.toString("base64").replaceAll(/.{1,70}/g, "$&\n");
  return `-----BEGIN OPENSSH PRIVATE KEY-----\n${lines}-----END OPENSSH PRIVATE KEY-----\n`;
}

function uint32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

/** RFC 4251: a length, then the bytes. */
function string(value: string | Uint8Array): Uint8Array {
  const bytes = typeof value === "string" ? new TextEncoder().encode(value) : value;
  return Buffer.concat([uint32(bytes.length), bytes]);
}

function padLeft(bytes: Uint8Array, length: number): Uint8Array {
  const significant = bytes.subarray(bytes.findIndex((byte) => byte !== 0));
  const padded = new Uint8Array(length);
  padded.set(significant, length - significant.length);
  return padded;
}
