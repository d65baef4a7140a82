import { messageOf } from "../base/error.ts";
import { UsageError } from "./usage_error.ts";

/**
 * Checks `--registry-credentials`, a containers-auth.json(5), before the first pull needs it.
 * @throws UsageError with a sentence that never holds what is in the file.
 */
export function checkRegistryCredentials(path: string | undefined): void {
  if (path === undefined) return;
  const refuse = (what: string): UsageError =>
    new UsageError(`Cannot use --registry-credentials ${path}: ${what}.`);
  let text: string;
  let mode: number | null;
  try {
    mode = Deno.statSync(path).mode;
    text = Deno.readTextFileSync(path);
  } catch (error) {
    throw refuse(messageOf(error));
  }
  if (((mode ?? 0) & 0o077) !== 0) {
    throw refuse("it holds secrets and must be readable by its owner only (chmod 600)");
  }
  let auths: unknown;
  try {
    auths = JSON.parse(text).auths;
  } catch {
    // The parser's message quotes the text, which holds passwords.
    throw refuse("it is not JSON");
  }
  if (typeof auths !== "object" || auths === null) {
    throw refuse(
      'it must have an object "auths" with the registries\' names, as `skopeo login` writes it',
    );
  }
}
