import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { TestClock } from "../../base/test_clock.ts";
import { containerRecord, TestStore } from "../../store/test_store.ts";
import { runningSoon } from "./running_job.ts";

const NEVER = new AbortController().signal;

for (const wish of ["run a command in", "attach to", "connect to a port of"] as const) {
  Deno.test(`runningSoon() says what cannot be done when somebody wants to ${wish} a container that waits or ended`, async () => {
    await using records = await TestStore.open();
    const { store } = records;
    const workload = { account: "u@h:22", jobId: "17", directory: "/d" };
    const ask = async () => {
      const look = () => runningSoon(store, new TestClock(), "c1", wish, NEVER);
      const { code, message } = await assertRejects(look, CriError);
      assertStringIncludes(message, `Cannot ${wish} the container c1`);
      return code;
    };
    store.containers.put(
      containerRecord({ state: { phase: "running", startedAtMs: 1 }, workload }),
    );
    assertEquals(await ask(), "UNAVAILABLE");
    store.containers.delete("c1");
    assertEquals(await ask(), "FAILED_PRECONDITION");
  });
}
