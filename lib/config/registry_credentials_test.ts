import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { UsageError } from "./usage_error.ts";
import { checkRegistryCredentials } from "./registry_credentials.ts";

const SECRET = "c2VjcmV0";

for (
  const [text, mode, refusal] of [
    [`{"auths":{"r.example":{"auth":"${SECRET}"}}}`, 0o600, undefined],
    [`{"auths":{"r.example":{"auth":"${SECRET}"}}}`, 0o640, "chmod 600"],
    [`{"auths":{"r.example":{"auth":"${SECRET}"}`, 0o600, "it is not JSON"],
    [`{"r.example":{"auth":"${SECRET}"}}`, 0o600, 'an object "auths"'],
    ["null", 0o600, "it is not JSON"],
  ] as const
) {
  Deno.test(`checkRegistryCredentials() ${refusal === undefined ? "accepts" : "refuses"} ${text} with mode ${mode.toString(8)}`, async () => {
    const path = await Deno.makeTempFile({ prefix: "auth-" });
    try {
      await Deno.writeTextFile(path, text);
      await Deno.chmod(path, mode);
      if (refusal === undefined) return assertEquals(checkRegistryCredentials(path), undefined);
      const error = assertThrows(() => checkRegistryCredentials(path), UsageError) as UsageError;
      assertStringIncludes(error.message, refusal);
      assertEquals(error.message.includes(SECRET), false);
    } finally {
      await Deno.remove(path);
    }
  });
}

Deno.test("checkRegistryCredentials() accepts no file, and refuses a missing one", () => {
  assertEquals(checkRegistryCredentials(undefined), undefined);
  assertThrows(
    () => checkRegistryCredentials("/nowhere/auth.json"),
    UsageError,
    "/nowhere/auth.json",
  );
});
