import { assertEquals } from "@std/assert";
import { signalExitCode } from "./signals.ts";

for (
  const [signal, code] of [["SIGTERM", 143], ["SIGKILL", 137], ["SIGUSR1", 138], ["SIGXCPU", 255], [
    "",
    255,
  ]] as const
) {
  Deno.test(`signalExitCode() is ${code} when the signal is "${signal}"`, () => {
    assertEquals(signalExitCode(signal), code);
  });
}
