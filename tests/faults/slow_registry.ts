/** The lab's registry behind a proxy on the machine that fails when it is told to. */
import type { Lab } from "../../scripts/lab/lab.ts";

const PORT = 5005;

export class SlowRegistry {
  /** Resolves when the fault has come. */
  faulted: Promise<void> = Promise.resolve();
  #left = Infinity;
  #kind: "close" | "stall" = "close";
  #fault: PromiseWithResolvers<void> = Promise.withResolvers();
  #healed: PromiseWithResolvers<void> = Promise.withResolvers();
  readonly #connections = new Set<Deno.Conn>();
  readonly #serving: Promise<void>;

  private constructor(
    readonly lab: Lab,
    private readonly listener: Deno.TcpListener,
  ) {
    this.#serving = this.#serve();
  }

  /** As it stands in image names that a kubelet would let pass: the port's colon escaped. */
  static nameIn(lab: Lab): string {
    return `${lab.address("machine")}0x--3a${PORT}`;
  }

  /** Starts the proxy, which the lab's Kubernetes node then takes for a registry without TLS. */
  static async start(lab: Lab): Promise<SlowRegistry> {
    const location = `${lab.address("machine")}:${PORT}`;
    const text = `[[registry]]\nlocation = "${location}"\ninsecure = true\n`;
    const path = "/etc/containers/registries.conf.d/slow.conf";
    await lab.exec("knode", ["mkdir", "-p", "/etc/containers/registries.conf.d"]);
    await Deno.writeTextFile(lab.path("knode", path), text);
    return new SlowRegistry(lab, Deno.listen({ hostname: lab.address("machine"), port: PORT }));
  }

  /** Lets so many bytes pass; then connections are closed, or nothing passes any more. */
  failAfter(bytes: number, kind: "close" | "stall"): void {
    [this.#left, this.#kind] = [bytes, kind];
    this.#fault = Promise.withResolvers();
    this.#healed = Promise.withResolvers();
    this.faulted = this.#fault.promise;
  }

  /** Lets everything pass again. */
  heal(): void {
    this.#left = Infinity;
    this.#healed.resolve();
  }

  async close(): Promise<void> {
    this.heal();
    this.listener.close();
    for (const connection of this.#connections) closeQuietly(connection);
    await this.#serving;
  }

  async #serve(): Promise<void> {
    const relays: Promise<void>[] = [];
    try {
      for await (const client of this.listener) relays.push(this.#relay(client));
    } finally {
      await Promise.all(relays);
    }
  }

  async #relay(client: Deno.Conn): Promise<void> {
    const [hostname = "", port] = this.lab.registry.split(":");
    const server = await Deno.connect({ hostname, port: Number(port) });
    const both = [client, server];
    for (const connection of both) this.#connections.add(connection);
    // Whichever side ends first ends the other.
    await Promise.race([
      client.readable.pipeTo(server.writable),
      this.#pass(server, client),
    ]).catch(() => {});
    for (const connection of both) {
      this.#connections.delete(connection);
      closeQuietly(connection);
    }
  }

  async #pass(from: Deno.Conn, to: Deno.Conn): Promise<void> {
    const buffer = new Uint8Array(64 * 1024);
    for (;;) {
      const read = await from.read(buffer);
      if (read === null) return;
      this.#left -= read;
      if (this.#left < 0) {
        this.#fault.resolve();
        if (this.#kind === "close") return;
        await this.#healed.promise;
      }
      for (let at = 0; at < read;) at += await to.write(buffer.subarray(at, read));
    }
  }
}

function closeQuietly(connection: Deno.Conn): void {
  try {
    connection.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BadResource)) throw error;
  }
}
