import { assert } from "@std/assert";
import { join } from "@std/path";

/** A certificate and its private key, as PEM texts. */
export interface Certificate {
  cert: string;
  key: string;
}

/**
 * A certificate that signs itself, or that `authority` signs.
 * @param names `subjectAltName` of openssl's x509v3_config(5), as `IP:10.0.0.1,DNS:host`.
 */
export async function makeCertificate(
  names: string,
  authority?: Certificate,
): Promise<Certificate> {
  const directory = await Deno.makeTempDir({ prefix: "certificate-" });
  try {
    const signing = [];
    if (authority !== undefined) {
      await Deno.writeTextFile(join(directory, "ca"), authority.cert);
      await Deno.writeTextFile(join(directory, "ca-key"), authority.key);
      signing.push("-CA", join(directory, "ca"), "-CAkey", join(directory, "ca-key"));
      signing.push("-addext", "basicConstraints=critical,CA:FALSE");
    }
    const { success } = await new Deno.Command("openssl", {
      args: [
        ...[
          "req",
          "-x509",
          "-newkey",
          "rsa:2048",
          "-nodes",
          "-days",
          "2",
          "-subj",
          `/CN=${authority ? "server" : "tests"}`,
        ],
        ...signing,
        ...["-addext", `subjectAltName=${names}`],
        ...["-keyout", join(directory, "key"), "-out", join(directory, "cert")],
      ],
      stderr: "null",
    }).output();
    assert(success, "openssl made no certificate");
    return {
      cert: await Deno.readTextFile(join(directory, "cert")),
      key: await Deno.readTextFile(join(directory, "key")),
    };
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
