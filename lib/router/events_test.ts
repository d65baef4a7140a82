import { assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { CriError } from "../base/error.ts";
import { until } from "../base/test_until.ts";
import {
  ContainerEventResponse,
  ContainerEventType,
  type DeepPartial,
} from "../cri/api.generated.ts";
import { type CriHandlers, methodOf } from "../cri/service.ts";
import { type BookRuntime, CONTEXT, type TestNode, withNode } from "./test_runtime.ts";

/** Lets a runtime send what is pushed to it, to whoever has subscribed. */
class Source {
  readonly #subscribers = new Set<(event: DeepPartial<ContainerEventResponse>) => void>();

  constructor(runtime: BookRuntime) {
    const subscribers = this.#subscribers;
    runtime.changes.getContainerEvents = (async function* (_request, { signal }) {
      const waiting: DeepPartial<ContainerEventResponse>[] = [];
      let wake = () => {};
      const push = (event: DeepPartial<ContainerEventResponse>) => {
        waiting.push(event);
        wake();
      };
      subscribers.add(push);
      signal.addEventListener("abort", () => wake(), { once: true });
      try {
        while (!signal.aborted) {
          const event = waiting.shift();
          if (event !== undefined) yield event;
          else await new Promise<void>((resolve) => wake = resolve);
        }
      } finally {
        subscribers.delete(push);
      }
    }) as CriHandlers["getContainerEvents"];
  }

  get subscribed(): boolean {
    return this.#subscribers.size > 0;
  }

  tell(containerId: string, containerEventType: ContainerEventType): void {
    for (const push of this.#subscribers) push({ containerId, containerEventType });
  }
}

const { CONTAINER_CREATED_EVENT, CONTAINER_STARTED_EVENT } = ContainerEventType;

/** The fakes answer as they were when they were opened. */
async function renew(node: TestNode): Promise<void> {
  await node.remote("default").down();
  await node.remote("default").up();
  await node.restart();
}

/** Reads the router's events while `use` runs; lines are `<first digits of the id> <type>`. */
async function withEvents(
  node: TestNode,
  use: (seen: readonly string[]) => Promise<void>,
): Promise<void> {
  const client = new AbortController();
  const seen: string[] = [];
  const reading = (async () => {
    const context = { ...CONTEXT, signal: client.signal };
    const events = node.backend.serverStream(
      methodOf("getContainerEvents"),
      new Uint8Array(),
      context,
    );
    for await (const bytes of events) {
      const { containerId, containerEventType } = ContainerEventResponse.decode(bytes);
      const type = ContainerEventType[containerEventType]?.split("_")[1];
      seen.push(`${containerId.slice(0, 4)} ${type}`);
    }
  })();
  try {
    await use(seen);
  } finally {
    client.abort(new CriError("CANCELLED", "enough"));
    await reading.catch((error) => {
      if (!(error instanceof CriError) || error.code !== "CANCELLED") throw error;
    });
  }
}

Deno.test("joinEvents() gives the events of all runtimes, and leaves out those without any", () =>
  withNode(["default", "extra"], async (node) => {
    const own = new Source(node.own);
    const remote = new Source(node.remote("default").runtime);
    await renew(node);
    await withEvents(node, async (seen) => {
      await until(() => own.subscribed && remote.subscribed);
      own.tell("0001", CONTAINER_CREATED_EVENT);
      remote.tell("d001", CONTAINER_CREATED_EVENT);
      remote.tell("d001", CONTAINER_STARTED_EVENT);
      await until(() => seen.length === 3);
      assertEquals(seen.toSorted(), ["0001 CREATED", "d001 CREATED", "d001 STARTED"]);
    });
  }));

Deno.test("joinEvents() makes up what changed while a runtime was away, once", () =>
  withNode(["default"], async (node) => {
    const served = node.remote("default");
    const { runtime } = served;
    const source = new Source(runtime);
    await renew(node);
    const config = { metadata: { name: "a", namespace: "b", uid: "c", attempt: 0 } };
    const { podSandboxId } = await node.call("runPodSandbox", { config });
    const create = async () =>
      (await node.call("createContainer", { podSandboxId, config: { metadata: { name: "m" } } }))
        .containerId;
    const [gone, started] = [await create(), await create()];
    await withEvents(node, async (seen) => {
      await until(() => source.subscribed);
      // The first look at what is there comes a moment after the subscription.
      await delay(300);
      await served.down();
      runtime.containers.delete(gone);
      const fresh = "d9".padEnd(64, "d");
      for (const id of [started, fresh]) {
        const { request } = runtime.containers.get(started) ?? {};
        if (request !== undefined) runtime.containers.set(id, { id, request, state: 1 });
      }
      await served.up();
      await until(() => seen.length === 5);
      const of = (id: string) => seen.filter((line) => line.startsWith(id.slice(0, 4)));
      assertEquals(of(gone), [`${gone.slice(0, 4)} STOPPED`, `${gone.slice(0, 4)} DELETED`]);
      assertEquals(of(started), [`${started.slice(0, 4)} STARTED`]);
      assertEquals(of(fresh), ["d9dd CREATED", "d9dd STARTED"]);
      // The runtime tells it late: the client knows it already.
      source.tell(started, CONTAINER_STARTED_EVENT);
      source.tell("dfff", CONTAINER_CREATED_EVENT);
      await until(() => seen.includes("dfff CREATED"));
      assertEquals(seen.length, 6);
    });
  }));

Deno.test("joinEvents() tells no end of a container that was made while it looked at what it missed", () =>
  withNode(["default"], async (node) => {
    const served = node.remote("default");
    const { runtime } = served;
    const source = new Source(runtime);
    await renew(node);
    await withEvents(node, async (seen) => {
      await until(() => source.subscribed);
      await delay(300);
      await served.down();
      const looking = Promise.withResolvers<void>();
      runtime.gates.listPodSandbox = looking.promise;
      await served.up();
      await until(() => source.subscribed);
      // Past the moment in which the look begins.
      await delay(300);
      source.tell("d777", CONTAINER_CREATED_EVENT);
      await until(() => seen.length === 1);
      looking.resolve();
      await delay(100);
      source.tell("d777", CONTAINER_STARTED_EVENT);
      await until(() => seen.length === 2);
      assertEquals(seen, ["d777 CREATED", "d777 STARTED"]);
    });
  }));
