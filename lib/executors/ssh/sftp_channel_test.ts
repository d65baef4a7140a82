import { assertEquals, assertRejects } from "@std/assert";
import { EventEmitter } from "node:events";
// @ts-types="@types/ssh2"
import type { SFTPWrapper } from "ssh2";
import { CriError } from "../../base/error.ts";
import {
  MAX_REQUESTS_IN_FLIGHT,
  MAX_WAITING_REQUESTS,
  SftpChannel,
  SftpStatusError,
} from "./sftp_channel.ts";
import { until } from "./test_session.ts";

/** As much of ssh2's channel as there is when tests answer the requests themselves. */
class TestWrapper extends EventEmitter {
  end(): void {
    this.emit("close");
  }
}

function makeChannel(timeoutMs = 60_000, connectionEndedBy?: CriError) {
  const wrapper = new TestWrapper();
  const stalls: string[] = [];
  const channel = new SftpChannel(wrapper as unknown as SFTPWrapper, {
    name: "cluster",
    onStalled: (reason) => stalls.push(reason),
    connectionEndedBy: () => connectionEndedBy,
    timeoutMs,
  });
  return { wrapper, channel, stalls };
}

type Done = (error: (Error & { code?: unknown }) | undefined, value: string) => void;

/** Sends requests whose answers are kept in `sent`. */
function sender(channel: SftpChannel) {
  const sent: Done[] = [];
  return { sent, send: () => channel.request<string>((_wrapper, done) => sent.push(done)) };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

Deno.test("SftpChannel.request() gives answers and refusals to those who asked", async () => {
  const { channel } = makeChannel();
  const { sent, send } = sender(channel);
  const [first, second] = [send(), send()];
  await until(() => sent.length === 2);
  sent[1]?.(undefined, "second");
  sent[0]?.(Object.assign(new Error("no such file"), { code: 2 }), "");
  assertEquals(await second, "second");
  assertEquals((await assertRejects(() => first, SftpStatusError)).status, 2);
  channel.close();
});

Deno.test("SftpChannel.request() keeps to its bounds, and to the order, when very many ask", async () => {
  const { channel } = makeChannel();
  const { sent, send } = sender(channel);
  const total = MAX_REQUESTS_IN_FLIGHT + MAX_WAITING_REQUESTS;
  const order: number[] = [];
  const answers = Array.from({ length: total }, (_, index) => send().then(() => order.push(index)));
  const error = await assertRejects(send, CriError);
  assertEquals(error.code, "RESOURCE_EXHAUSTED");
  assertEquals(sent.length, MAX_REQUESTS_IN_FLIGHT);
  let answered = 0;
  while (answered < total) {
    const most = sent.length - answered;
    assertEquals(most <= MAX_REQUESTS_IN_FLIGHT, true);
    for (let count = 0; count < most; count++) sent[answered++]?.(undefined, "");
    await pause(0);
  }
  await Promise.all(answers);
  assertEquals(order, [...order].sort((a, b) => a - b));
  channel.close();
});

Deno.test("SftpChannel fails everyone, with the best reason, when it closes", async () => {
  for (const reason of [undefined, new CriError("UNAVAILABLE", "the whole connection is lost")]) {
    const { channel, wrapper } = makeChannel(60_000, reason);
    const { sent, send } = sender(channel);
    const requests = Array.from({ length: MAX_REQUESTS_IN_FLIGHT + 5 }, send);
    const settled = Promise.allSettled(requests);
    await until(() => sent.length === MAX_REQUESTS_IN_FLIGHT);
    wrapper.emit("end");
    await channel.closed;
    for (const outcome of [...await settled, ...await Promise.allSettled([send()])]) {
      const error = outcome.status === "rejected" ? outcome.reason : undefined;
      assertEquals(error?.code, "UNAVAILABLE");
      assertEquals(
        error.message,
        reason?.message ?? "Lost the sftp channel to cluster: the server closed it",
      );
    }
    assertEquals(sent.length, MAX_REQUESTS_IN_FLIGHT);
  }
});

Deno.test("SftpChannel.request() fails, and passes its turn on, when ssh2 throws", async () => {
  const { channel } = makeChannel();
  for (let call = 0; call < MAX_REQUESTS_IN_FLIGHT + 1; call++) {
    await assertRejects(
      () =>
        channel.request<void>(() => {
          throw new Error("Server does not support this extended request");
        }),
      Error,
      "extended request",
    );
  }
  channel.close();
});

Deno.test("SftpChannel closes when ssh2 gives up on a request without the server's answer", async () => {
  const { channel } = makeChannel();
  const { sent, send } = sender(channel);
  const request = send();
  await until(() => sent.length === 1);
  sent[0]?.(new Error("No response from server"), "");
  const error = await assertRejects(() => request, CriError);
  assertEquals(error.message, "Lost the sftp channel to cluster: No response from server");
  await channel.closed;
});

Deno.test("SftpChannel tells of a stall when a request is not answered in time", async () => {
  const { channel, stalls } = makeChannel(20);
  const { sent, send } = sender(channel);
  const request = send();
  request.catch(() => {});
  await until(() => stalls.length === 1);
  assertEquals([stalls, sent.length], [["sftp did not answer for 20 ms"], 1]);
  channel.close();
  await assertRejects(() => request, CriError);
});

Deno.test("SftpChannel counts a silence from its own first request when it was idle before", async () => {
  const timeoutMs = 1_000;
  const { channel, stalls } = makeChannel(timeoutMs);
  const { sent, send } = sender(channel);
  const first = send();
  await until(() => sent.length === 1);
  sent[0]?.(undefined, "");
  await first;
  // The watch, started by the first request, looks while the second one is out for a short time.
  await pause(0.6 * timeoutMs);
  const second = send();
  await pause(0.6 * timeoutMs);
  sent[1]?.(undefined, "");
  await second;
  assertEquals(stalls, []);
  channel.close();
});
