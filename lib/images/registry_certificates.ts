import { join } from "@std/path";
import { CERTIFICATE_DIRECTORIES } from "../config/permissions.ts";

/**
 * Texts of the certificates of authorities that the node trusts for `registry`, beside those it trusts for every
 * server: `<registry>/*.crt` in the first of `directories` that has the registry (containers-certs.d(5)).
 */
export async function registryCertificates(
  registry: string,
  directories: readonly string[] = CERTIFICATE_DIRECTORIES,
): Promise<string[]> {
  for (const directory of directories.map((parent) => join(parent, registry))) {
    try {
      const names = (await Array.fromAsync(Deno.readDir(directory))).map(({ name }) => name);
      const certificates = names.filter((name) => name.endsWith(".crt")).toSorted();
      return await Promise.all(
        certificates.map((name) => Deno.readTextFile(join(directory, name))),
      );
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return [];
}
