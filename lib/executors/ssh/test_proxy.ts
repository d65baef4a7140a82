/** A TCP proxy that can lose the network, for tests. */
export interface TestProxy extends AsyncDisposable {
  port: number;
  /** Stops passing anything on, in both directions, without closing: a network gone silent. */
  freeze(): void;
  /** Passes on what came meanwhile, and all that comes. */
  thaw(): void;
  /** Closes all connections that go through it. */
  cut(): void;
}

/** Passes connections on to `targetPort` of this machine. */
export function startTestProxy(targetPort: number): TestProxy {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const sockets = new Set<Deno.TcpConn>();
  let thawed = Promise.withResolvers<void>();
  thawed.resolve();
  const copy = async (from: Deno.TcpConn, to: Deno.TcpConn) => {
    const buffer = new Uint8Array(64 * 1024);
    try {
      for (let count = await from.read(buffer); count !== null; count = await from.read(buffer)) {
        await thawed.promise;
        let sent = 0;
        while (sent < count) sent += await to.write(buffer.subarray(sent, count));
      }
    } catch {
      // Closed by either side, or cut.
    } finally {
      close(from);
      close(to);
    }
  };
  const close = (socket: Deno.TcpConn) => {
    if (sockets.delete(socket)) socket.close();
  };
  const copies = new Set<Promise<void>>();
  const accepting = (async () => {
    for await (const near of listener) {
      sockets.add(near);
      const far = await Deno.connect({ hostname: "127.0.0.1", port: targetPort }).catch(() =>
        undefined
      );
      if (far === undefined) {
        close(near);
        continue;
      }
      sockets.add(far);
      near.setNoDelay(true);
      far.setNoDelay(true);
      copies.add(copy(near, far)).add(copy(far, near));
    }
  })();
  return {
    port: listener.addr.port,
    freeze: () => thawed = Promise.withResolvers<void>(),
    thaw: () => thawed.resolve(),
    cut: () => {
      for (const socket of sockets) close(socket);
    },
    async [Symbol.asyncDispose]() {
      listener.close();
      for (const socket of sockets) close(socket);
      thawed.resolve();
      await accepting;
      await Promise.all(copies);
    },
  };
}
