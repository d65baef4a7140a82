import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { assertSupportedDeno } from "./deno_version.ts";
import { CriError } from "./error.ts";

const CASES: readonly [version: string, complaint: string | undefined][] = [
  ["1.46.3", "unix socket"],
  ["2.7.9", "unix socket"],
  ["2.7.9-rc.1", "unix socket"],
  ["2.7.10", undefined],
  ["2.9.3", undefined],
  ["2.9.3+0d6fcf2", undefined],
  ["2.9.4", "disconnect"],
  ["2.9.5+0d6fcf2", "disconnect"],
  ["2.9.6", "disconnect"],
  ["2.9.7", undefined],
  ["2.10.0-rc.1", undefined],
  ["3.0.0", undefined],
  ["", "must look like"],
  ["2.9", "must look like"],
  ["2.9.31x", "must look like"],
];

for (const [version, complaint] of CASES) {
  const outcome = complaint === undefined ? "accepts" : "refuses";
  Deno.test(`assertSupportedDeno() ${outcome} version "${version}"`, () => {
    if (complaint === undefined) return assertEquals(assertSupportedDeno(version), undefined);
    const error = assertThrows(() => assertSupportedDeno(version), CriError, complaint);
    assertEquals(error.code, "FAILED_PRECONDITION");
    assertStringIncludes(error.message, "2.9.3");
  });
}
