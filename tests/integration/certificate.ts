import { assert } from "@std/assert";
import { join } from "@std/path";

/**
 * A certificate that signs itself, and its private key, as PEM texts.
 * @param names `subjectAltName` of openssl's x509v3_config(5), as `IP:10.0.0.1,DNS:host`.
 */
export async function makeCertificate(names: string): Promise<{ cert: string; key: string }> {
  const directory = await Deno.makeTempDir({ prefix: "certificate-" });
  try {
    const { success } = await new Deno.Command("openssl", {
      args: [
        ...["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tests"],
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
