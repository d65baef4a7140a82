/** Which of a pod's jobs a connection goes to; the other side is played. */
import { assertEquals, assertRejects } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { TestClock } from "../../base/test_clock.ts";
import type { ScriptOptions } from "../../executors/ssh/session.ts";
import { containerRecord, TestStore } from "../../store/test_store.ts";
import { ByteQueue } from "../../streaming/byte_queue.ts";
import type { ActiveContainers } from "./active.ts";
import { openPortForward } from "./port_forward.ts";
import { StreamLines } from "./stream_lines.ts";
import type { SlurmWorkload } from "./workload.ts";

const NEVER = new AbortController().signal;
const frame = (letter: string, words = "") =>
  `${letter}\0\0\0${String.fromCharCode(words.length)}${words}\n`;
const CLOSED = frame("f", "ended nothing there listens: refused");
const TALKS = frame("s") + frame("o", "hi") + frame("z") + frame("x", "0");

/** Containers of a pod, each with what its job's node answers; undefined for one whose job pends. */
async function withPod(
  answers: Record<string, string | undefined>,
  use: (connect: () => Promise<string>, asked: string[]) => Promise<void>,
): Promise<void> {
  await using records = await TestStore.open();
  const { store } = records;
  const asked: string[] = [];
  const accounts = new Map<string, unknown>();
  for (const [id, answer] of Object.entries(answers)) {
    const pending: SlurmWorkload = { account: "u@h:22", jobId: id, directory: "/d" };
    const workload = answer === undefined
      ? pending
      : { ...pending, job: { host: "n1", startedAtMs: 0 } };
    store.containers.put(
      containerRecord({ id, state: { phase: "running", startedAtMs: 1 }, workload }),
    );
    const session = {
      run: async (_script: string, { stdin, onStdout }: ScriptOptions) => {
        asked.push(id);
        let sent = "";
        for await (const piece of stdin as AsyncIterable<Uint8Array>) {
          sent += new TextDecoder("latin1").decode(piece);
          const nonce = /\n([0-9a-f]{32})\0\d+\0/.exec(sent)?.[1];
          if (nonce === undefined) continue;
          const bytes = Uint8Array.from(`${nonce}${answer}`, (letter) => letter.charCodeAt(0));
          await onStdout?.(bytes);
          break;
        }
        return { code: 0, stdout: new Uint8Array(), stderr: new Uint8Array() };
      },
    };
    accounts.set(id, {
      name: "u@h:22",
      lines: new StreamLines(() => session as never, () => {}),
    });
  }
  const active = {
    of: (id: string) => Promise.resolve({ account: accounts.get(id) }),
  } as unknown as ActiveContainers;
  const clock = new TestClock();
  clock.advance(1_000_000);
  const connect = async () => {
    const forward = await openPortForward(active, store, clock, Object.keys(answers), NEVER);
    let came = "";
    await forward(80, {
      incoming: new ByteQueue(1),
      outgoing: (piece) => Promise.resolve(void (came += new TextDecoder().decode(piece))),
      endOutgoing: () => Promise.resolve(void (came += "|")),
    }, NEVER);
    return came;
  };
  await use(connect, asked);
}

Deno.test("openPortForward() connects to the first job where something listens", () =>
  withPod({ c1: CLOSED, c2: undefined, c3: TALKS, c4: TALKS }, async (connect, asked) => {
    assertEquals(await connect(), "hi|");
    assertEquals(asked, ["c1", "c3"]);
  }));

Deno.test("openPortForward() says why when nothing listens anywhere", () =>
  withPod({ c1: CLOSED, c2: CLOSED }, async (connect) => {
    await assertRejects(
      connect,
      Error,
      "port 80 of the job c1 on n1: nothing there listens: refused",
    );
  }));

Deno.test("openPortForward() does not try another job when the first could not be asked", () =>
  withPod({ c1: frame("f", "node no sockets there"), c2: TALKS }, async (connect, asked) => {
    const error = await assertRejects(connect, CriError, "no sockets there");
    assertEquals([error.code, asked], ["FAILED_PRECONDITION", ["c1"]]);
  }));

Deno.test("openPortForward() fails with UNAVAILABLE when every job pends", () =>
  withPod({ c1: undefined }, async (connect) => {
    const error = await assertRejects(connect, CriError, "its job c1 waits");
    assertEquals(error.code, "UNAVAILABLE");
  }));
