import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { StalledClient } from "./test_stalled_client.ts";
import { withServer } from "./test_client.ts";

const ANSWER_BYTES = 64 * 1024;
/** Three times what may wait for a client. */
const ANSWERS = 48;
const POLL_MS = 10;

/** A backend that answers with many messages, and counts how many were asked of it. */
function talkative() {
  const counter = { asked: 0, ended: false };
  async function* serverStream() {
    try {
      for (; counter.asked < ANSWERS; counter.asked++) {
        yield await Promise.resolve(new Uint8Array(ANSWER_BYTES));
      }
    } finally {
      counter.ended = true;
    }
  }
  return { counter, backend: { serverStream } };
}

/** Waits until the count has not changed for a while. */
async function settled(counter: { asked: number }): Promise<number> {
  for (let last = -1, same = 0;;) {
    await delay(POLL_MS);
    same = counter.asked === last ? same + 1 : 0;
    last = counter.asked;
    if (last > 0 && same === 20) return last;
  }
}

Deno.test("streamHandler() asks for no more answers while the client reads none", async () => {
  const { backend, counter } = talkative();
  await withServer(backend, async ({ socketPath }) => {
    const client = new StalledClient(socketPath, "GetContainerEvents");
    const asked = await settled(counter);
    assert(asked > 8 && asked < 24, `${asked} answers were asked for`);
    assertEquals(counter.ended, false);
    client.resume();
    while (client.receivedBytes < ANSWERS * ANSWER_BYTES) await delay(POLL_MS);
    assertEquals([counter.asked, counter.ended], [ANSWERS, true]);
    await client.close();
  });
});

Deno.test("streamHandler() ends when a client goes that read nothing", async () => {
  const { backend, counter } = talkative();
  await withServer(backend, async ({ socketPath, lines }) => {
    const client = new StalledClient(socketPath, "GetContainerEvents");
    await settled(counter);
    await client.close();
    while (!counter.ended) await delay(POLL_MS);
    assert(counter.asked < ANSWERS);
    while (!lines.some((line) => line.includes("GetContainerEvents"))) await delay(POLL_MS);
    assertEquals(lines.filter((line) => line.startsWith("ERROR")), []);
  });
});

Deno.test("streamHandler() holds nothing back from a client that reads", async () => {
  const { backend, counter } = talkative();
  await withServer(backend, async ({ client }) => {
    const answers = await client.stream("GetContainerEvents").toArray();
    assertEquals(answers.length, ANSWERS);
    assertEquals(counter.ended, true);
  });
});
