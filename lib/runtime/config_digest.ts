import { createHash } from "node:crypto";

/**
 * SHA-256 of a decoded protobuf message, the same for equal messages: Go clients send the entries of a
 * map in random order, so keys are sorted first.
 */
export function configDigest(message: unknown): string {
  return createHash("sha256").update(canonical(message)).digest("hex");
}

function canonical(value: unknown): string {
  if (typeof value === "bigint") return `${value}n`;
  if (value instanceof Uint8Array) return `bytes:${value.toHex()}`;
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const fields = Object.entries(value)
      .filter(([, field]) => field !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, field]) => `${JSON.stringify(key)}:${canonical(field)}`);
    return `{${fields.join(",")}}`;
  }
  return JSON.stringify(value) ?? "undefined";
}
