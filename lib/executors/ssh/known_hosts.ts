import { createHash, createHmac } from "node:crypto";

/** One line of a known_hosts file that names a key (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"). */
export interface KnownHost {
  /** 1-based, for messages. */
  lineNumber: number;
  /** `@revoked` keys must be refused, `@cert-authority` keys sign certificates and are no host's own. */
  marker: "" | "@revoked" | "@cert-authority";
  /** For example `ssh-ed25519`. */
  type: string;
  /** The public key in SSH wire format; undefined when the line's base64 is broken. */
  key: Uint8Array | undefined;
}

/** The lines of `text` that are about this host and port. Comments and other hosts are left out. */
export function findKnownHosts(text: string, host: string, port: number): KnownHost[] {
  const name = knownHostsName(host, port);
  const found: KnownHost[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    const fields = line.trim().split(/\s+/);
    if (fields[0] === "" || fields[0]?.startsWith("#")) continue;
    const marker = fields[0] === "@revoked" || fields[0] === "@cert-authority" ? fields[0] : "";
    if (marker !== "") fields.shift();
    const [patterns = "", type = "", base64 = ""] = fields;
    if (!matchesPatterns(patterns, name)) continue;
    found.push({ lineNumber: index + 1, marker, type, key: decodeKey(type, base64) });
  }
  return found;
}

/** The number of the first line that is neither a comment nor names a key; undefined when every line is in order. */
export function firstDamagedLine(text: string): number | undefined {
  const index = text.split("\n").findIndex((line) => {
    const fields = line.trim().split(/\s+/);
    if (fields[0] === "" || fields[0]?.startsWith("#")) return false;
    if (fields[0]?.startsWith("@")) fields.shift();
    const [, type = "", base64 = ""] = fields;
    return type === "" || decodeKey(type, base64) === undefined;
  });
  return index === -1 ? undefined : index + 1;
}

/** A line to append, newline included, for a host that was seen for the first time. */
export function formatKnownHost(host: string, port: number, key: Uint8Array): string {
  return `${knownHostsName(host, port)} ${keyType(key)} ${key.toBase64()}\n`;
}

/** The fingerprint as OpenSSH shows it: `SHA256:` and unpadded base64. */
export function fingerprint(key: Uint8Array): string {
  return "SHA256:" + createHash("sha256").update(key).digest("base64").replace(/=+$/, "");
}

/** The type in front of a public key in SSH wire format (RFC 4253, 6.6), or "" when it is malformed. */
export function keyType(key: Uint8Array): string {
  if (key.length < 4) return "";
  const length = new DataView(key.buffer, key.byteOffset).getUint32(0);
  return new TextDecoder().decode(key.subarray(4, 4 + length));
}

/** Whether two public keys are the same. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

/** OpenSSH writes a port only when it is not 22, and names in lower case. */
function knownHostsName(host: string, port: number): string {
  const name = host.toLowerCase();
  return port === 22 ? name : `[${name}]:${port}`;
}

function decodeKey(type: string, base64: string): Uint8Array | undefined {
  try {
    const key = Uint8Array.fromBase64(base64);
    return keyType(key) === type ? key : undefined;
  } catch {
    return undefined;
  }
}

function matchesPatterns(patterns: string, name: string): boolean {
  if (patterns.startsWith("|")) return matchesHash(patterns, name);
  let matched = false;
  for (const pattern of patterns.toLowerCase().split(",")) {
    if (pattern.startsWith("!")) {
      // A negated match rules the line out whatever else it names.
      if (matchesWildcards(pattern.slice(1), name)) return false;
    } else if (matchesWildcards(pattern, name)) {
      matched = true;
    }
  }
  return matched;
}

/** `|1|base64 salt|base64 HMAC-SHA1 of the name`, as `ssh-keygen -H` writes it. */
function matchesHash(hashed: string, name: string): boolean {
  const [, version, salt, hash] = hashed.split("|");
  if (version !== "1" || salt === undefined || hash === undefined) return false;
  const expected = createHmac("sha1", new Uint8Array(decodeBase64(salt))).update(name);
  return expected.digest("base64") === hash;
}

function decodeBase64(text: string): Uint8Array {
  try {
    return Uint8Array.fromBase64(text);
  } catch {
    return new Uint8Array();
  }
}

/** `*` stands for any characters, `?` for one; everything else for itself, brackets included. */
function matchesWildcards(pattern: string, name: string): boolean {
  if (pattern === "") return false;
  const source = pattern
    .replaceAll(/[.+^${}()|[\]\\]/g, "\\$&")
    .replaceAll("*", ".*")
    .replaceAll("?", ".");
  return new RegExp(`^${source}$`).test(name);
}
