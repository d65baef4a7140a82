import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { CriError } from "../base/error.ts";
import { bindSocket, claimSocket } from "./socket.ts";

async function withDirectory(use: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "multicri-socket-" });
  try {
    await use(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** A socket without a listener, as a killed server leaves it. */
async function leaveStaleSocket(path: string): Promise<void> {
  const listener = Deno.listen({ transport: "unix", path: `${path}.live` });
  await Deno.rename(`${path}.live`, path); // so that close() does not find and remove it
  listener.close();
}

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}

const REFUSED: readonly {
  when: string;
  prepare: (path: string) => Promise<void> | void;
  path?: string;
  code: string;
  sentence: string;
}[] = [
  {
    when: "a file is there",
    prepare: (path) => Deno.writeTextFile(path, "precious"),
    code: "FAILED_PRECONDITION",
    sentence: "it is a file. Remove it or choose another path.",
  },
  {
    when: "a directory is there",
    prepare: (path) => Deno.mkdir(path),
    code: "FAILED_PRECONDITION",
    sentence: "it is a directory.",
  },
  {
    when: "a symbolic link is there",
    prepare: (path) => Deno.symlink("/nowhere", path),
    code: "FAILED_PRECONDITION",
    sentence: "it is a symbolic link.",
  },
  {
    when: "the path is too long",
    prepare: () => {},
    path: "/tmp/" + "é".repeat(52), // 109 bytes in 57 characters
    code: "INVALID_ARGUMENT",
    sentence: "must have at most 107 bytes: it has 109.",
  },
  {
    when: "the path is relative",
    prepare: () => {},
    path: "multicri.sock",
    code: "INVALID_ARGUMENT",
    sentence: 'must be absolute: current value is "multicri.sock"',
  },
];

for (const { when, prepare, path, code, sentence } of REFUSED) {
  Deno.test(`claimSocket() refuses when ${when}`, async () => {
    await withDirectory(async (directory) => {
      const claimed = path ?? `${directory}/cri.sock`;
      await prepare(claimed);
      const error = await assertRejects(() => claimSocket(claimed), CriError, sentence);
      assertEquals(error.code, code);
      assertEquals(await exists(claimed), path === undefined, "nothing may have been removed");
    });
  });
}

Deno.test("claimSocket() refuses and leaves the socket when a server answers on it", async () => {
  await withDirectory(async (directory) => {
    const path = `${directory}/cri.sock`;
    const listener = Deno.listen({ transport: "unix", path });
    const error = await assertRejects(() => claimSocket(path), CriError, "another server answers");
    assertEquals(error.code, "ALREADY_EXISTS");
    assertEquals(await exists(path), true);
    listener.close();
  });
});

Deno.test("claimSocket() removes the socket when its server is gone", async () => {
  await withDirectory(async (directory) => {
    const path = `${directory}/cri.sock`;
    await leaveStaleSocket(path);
    await claimSocket(path);
    assertEquals(await exists(path), false);
    await claimSocket(path); // and is content with nothing
  });
});

Deno.test("bindSocket() keeps others out from the first moment when the umask would let them in", async () => {
  await withDirectory(async (directory) => {
    const path = `${directory}/cri.sock`;
    const umask = Deno.umask(0);
    try {
      let atFirst: number | undefined;
      const socket = await bindSocket(path, (path) => {
        const listener = Deno.listen({ transport: "unix", path });
        atFirst = Deno.lstatSync(path).mode ?? 0;
        return listener;
      });
      assertEquals((atFirst ?? 0) & 0o077, 0);
      assertEquals(((await Deno.lstat(path)).mode ?? 0) & 0o777, 0o600);
      assertEquals(Deno.umask(0), 0, "the umask is put back");
      await socket.close();
      assertEquals(await socket.accept(), undefined);
      assertEquals(await exists(path), false);
    } finally {
      Deno.umask(umask);
    }
  });
});

Deno.test("OwnedSocket.close() leaves the socket when another server has replaced it", async () => {
  await withDirectory(async (directory) => {
    const path = `${directory}/cri.sock`;
    let listener: Deno.UnixListener | undefined;
    const socket = await bindSocket(
      path,
      (path) => listener = Deno.listen({ transport: "unix", path }),
    );
    const accepting = socket.accept();
    await Deno.rename(path, `${path}.old`); // keeps its inode in use
    await leaveStaleSocket(path);
    await socket.close();
    assertEquals(await accepting, undefined);
    assertEquals(await exists(path), true);
    listener?.close();
  });
});

Deno.test("bindSocket() names the missing directory when there is none", async () => {
  await withDirectory(async (directory) => {
    const error = await assertRejects(
      () => bindSocket(`${directory}/run/cri.sock`),
      CriError,
    );
    assertEquals(error.code, "FAILED_PRECONDITION");
    assertStringIncludes(error.message, `its directory "${directory}/run" must exist`);
  });
});
