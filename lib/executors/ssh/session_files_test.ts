import { assert, assertEquals } from "@std/assert";
import type { CriCode } from "../../base/error.ts";
import { MAX_REQUESTS_IN_FLIGHT } from "./sftp_channel.ts";
import {
  assertFails,
  assertSameBytes,
  everyByte,
  startTestSession,
  text,
  until,
} from "./test_session.ts";

/** Around the sizes where a piece, a wave of pieces or a packet of a small server ends. */
const SIZES_BYTES = [0, 1, 30_720, 30_721, 131_072, 131_073, 2_228_224, 2_228_225, 5_000_000];

Deno.test("ClusterSession.writeFile() and readFile() keep every byte when files have any size", async (t) => {
  await using test = await startTestSession();
  const path = `${test.folder}/file`;
  for (const size of SIZES_BYTES) {
    await t.step(`${size} bytes`, async () => {
      const bytes = everyByte(size);
      await test.session.writeFile(path, bytes, { mode: 0o600 });
      assertSameBytes(await Deno.readFile(path), bytes);
      assertSameBytes(await test.session.readFile(path, size), bytes);
      assertEquals((await test.session.stat(path))?.sizeBytes, size);
    });
  }
  assertEquals(partFiles(test.folder), []);
});

Deno.test("ClusterSession.upload() keeps every byte and tells its progress when files have any size", async (t) => {
  await using test = await startTestSession();
  for (const size of SIZES_BYTES) {
    await t.step(`${size} bytes`, async () => {
      const [from, to] = [`${test.folder}/from`, `${test.folder}/to`];
      const bytes = everyByte(size);
      await Deno.writeFile(from, bytes);
      const progress: number[] = [];
      await test.session.upload(from, to, {
        mode: 0o600,
        onProgress: (sentBytes, totalBytes) => {
          assertEquals(totalBytes, size);
          progress.push(sentBytes);
        },
      });
      assertSameBytes(await Deno.readFile(to), bytes);
      assertEquals(progress, progress.toSorted((a, b) => a - b));
      assertEquals(progress.at(-1) ?? 0, size);
    });
  }
});

Deno.test("ClusterSession.readLink() tells where a link leads, and nothing of what is none", async () => {
  await using test = await startTestSession();
  await Deno.symlink("..2026/it's ü", `${test.folder}/link`);
  await Deno.writeTextFile(`${test.folder}/file`, "");
  const targets = await Promise.all(
    ["link", "file", "missing"].map((name) => test.session.readLink(`${test.folder}/${name}`)),
  );
  assertEquals(targets, ["..2026/it's ü", undefined, undefined]);
});

const RANGES = [
  { when: "it is in the middle", offset: 100, max: 50, start: 100, end: 150 },
  { when: "it crosses the end", offset: 900_000, max: 500_000, start: 900_000, end: 1_000_000 },
  { when: "it starts at the end", offset: 1_000_000, max: 10, start: 0, end: 0 },
  { when: "it starts behind the end", offset: 2_000_000, max: 10, start: 0, end: 0 },
  { when: "it ends with a piece", offset: 0, max: 131_072, start: 0, end: 131_072 },
  { when: "nothing is asked for", offset: 5, max: 0, start: 0, end: 0 },
];

for (const { when, offset, max, start, end } of RANGES) {
  Deno.test(`ClusterSession.readAt() gives the range that is there when ${when}`, async () => {
    await using test = await startTestSession();
    const bytes = everyByte(1_000_000);
    await Deno.writeFile(`${test.folder}/file`, bytes);
    assertSameBytes(
      await test.session.readAt(`${test.folder}/file`, offset, max),
      bytes.slice(start, end),
    );
  });
}

Deno.test("ClusterSession gives undefined or false when a file does not exist", async () => {
  await using test = await startTestSession();
  const path = `${test.folder}/none`;
  assertEquals(await test.session.stat(path), undefined);
  assertEquals(await test.session.readAt(path, 0, 10), undefined);
  assertEquals(await test.session.readFile(path, 10), undefined);
  assertEquals(await test.session.remove(path), false);
});

Deno.test("ClusterSession.remove() removes a file when it is there", async () => {
  await using test = await startTestSession();
  await Deno.writeTextFile(`${test.folder}/file`, "x");
  assertEquals(await test.session.remove(`${test.folder}/file`), true);
  assertEquals(await test.session.stat(`${test.folder}/file`), undefined);
});

Deno.test("ClusterSession.stat() gives size, time and mode when a file is there", async () => {
  await using test = await startTestSession();
  const path = `${test.folder}/file`;
  await Deno.writeTextFile(path, "four", { mode: 0o640 });
  await Deno.utime(path, 1_700_000_000, 1_700_000_000);
  assertEquals(await test.session.stat(path), {
    sizeBytes: 4,
    mtimeMs: 1_700_000_000_000,
    mode: 0o100640,
  });
});

Deno.test("ClusterSession.writeFile() replaces a file when there is one", async () => {
  await using test = await startTestSession();
  const path = `${test.folder}/file`;
  await test.session.writeFile(path, new TextEncoder().encode("old and long"), { mode: 0o600 });
  await test.session.writeFile(path, new TextEncoder().encode("new"), { mode: 0o600 });
  assertEquals(await Deno.readTextFile(path), "new");
});

const FAILURES: {
  when: string;
  work: (test: Awaited<ReturnType<typeof startTestSession>>) => Promise<unknown>;
  code: CriCode;
  message: RegExp;
}[] = [
  {
    when: "the folder does not exist",
    work: (test) =>
      test.session.writeFile(`${test.folder}/no/file`, new Uint8Array(1), { mode: 0o600 }),
    code: "NOT_FOUND",
    message: /^Cannot write \S+\/no\/file on user@127\S+ as it and its folder must exist/,
  },
  {
    when: "a folder is in the file's place",
    work: (test) => test.session.readFile(test.folder, 100),
    code: "FAILED_PRECONDITION",
    message: /^Cannot read /,
  },
  {
    when: "a file is longer than the caller bears",
    work: async (test) => {
      await Deno.writeTextFile(`${test.folder}/file`, "12345");
      await test.session.readFile(`${test.folder}/file`, 4);
    },
    code: "RESOURCE_EXHAUSTED",
    message: /at most 4 bytes/,
  },
  {
    when: "the local file does not exist",
    work: (test) => test.session.upload("/no/such/file", `${test.folder}/file`, { mode: 0o600 }),
    code: "NOT_FOUND",
    message: /^Cannot send \/no\/such\/file/,
  },
  {
    when: "the local file is a folder",
    work: (test) => test.session.upload("/", `${test.folder}/file`, { mode: 0o600 }),
    code: "FAILED_PRECONDITION",
    message: /^Cannot send \/ as it must be a file/,
  },
];

for (const { when, work, code, message } of FAILURES) {
  Deno.test(`ClusterSession fails with ${code} when ${when}`, async () => {
    await using test = await startTestSession();
    await assertFails(() => work(test), code, message);
    await until(() => partFiles(test.folder).length === 0);
  });
}

Deno.test("ClusterSession.upload() leaves the old file and no part when it is cancelled", async () => {
  await using test = await startTestSession();
  const [from, to] = [`${test.folder}/from`, `${test.folder}/to`];
  await Deno.writeFile(from, everyByte(4_000_000));
  await Deno.writeTextFile(to, "old");
  const stop = new AbortController();
  await assertFails(
    () =>
      test.session.upload(from, to, {
        mode: 0o600,
        signal: stop.signal,
        onProgress: () => stop.abort(new Error("pod deleted")),
      }),
    "CANCELLED",
    /Sending \S+ was cancelled: pod deleted/,
  );
  assertEquals(await Deno.readTextFile(to), "old");
  await until(() => partFiles(test.folder).length === 0);
});

Deno.test("ClusterSession.stat() answers all and bounds what is in flight when thousands come at once", async () => {
  await using test = await startTestSession();
  await Deno.writeTextFile(`${test.folder}/file`, "x");
  const stats = await Promise.all(
    Array.from({ length: 3_000 }, () => test.session.stat(`${test.folder}/file`)),
  );
  assert(stats.every((stat) => stat?.sizeBytes === 1));
});

Deno.test("ClusterSession.stat() sends no more at once than the bound when the server is slow", async () => {
  const asked: string[] = [];
  await using test = await startTestSession({
    session: { sftpTimeoutMs: 300 },
    faults: {
      onSftp: (request) => {
        asked.push(request);
        return "stall";
      },
    },
  });
  const stats = Array.from({ length: 200 }, () => test.session.stat("/"));
  const outcomes = await Promise.allSettled(stats);
  assertEquals(asked.length, MAX_REQUESTS_IN_FLIGHT);
  for (const outcome of outcomes) {
    assertEquals(outcome.status === "rejected" && outcome.reason.code, "UNAVAILABLE");
  }
});

Deno.test("ClusterSession takes the connection for dead when sftp stops answering, and makes another", async () => {
  let stall = true;
  await using test = await startTestSession({
    session: { sftpTimeoutMs: 200 },
    faults: { onSftp: () => stall ? "stall" : "serve" },
  });
  await assertFails(() => test.session.stat("/"), "UNAVAILABLE", /sftp did not answer for 200 ms/);
  stall = false;
  await test.session.connect();
  assert(await test.session.stat("/") !== undefined);
  assertEquals(test.server.connections, 2);
});

Deno.test("ClusterSession opens sftp anew on the same connection when the server closed it", async () => {
  let close = true;
  await using test = await startTestSession({
    faults: { onSftp: () => close ? "close" : "serve" },
  });
  await assertFails(() => test.session.stat("/"), "UNAVAILABLE", /Lost the sftp channel to user@/);
  close = false;
  assert(await test.session.stat("/") !== undefined);
  assertEquals(test.server.connections, 1);
});

Deno.test("ClusterSession.writeFile() cannot tell the outcome when the connection is lost at the rename", async () => {
  await using test = await startTestSession();
  test.server.faults.onSftp = (request) => {
    if (request !== "RENAME") return "serve";
    test.server.cutAll();
    return "stall";
  };
  await assertFails(
    () => test.session.writeFile(`${test.folder}/file`, new Uint8Array(9), { mode: 0o600 }),
    "UNKNOWN",
    /Cannot tell whether \S+ was replaced.*Lost the connection/,
  );
});

Deno.test("ClusterSession.writeFile() changes nothing when the connection is lost before the rename", async () => {
  await using test = await startTestSession();
  await Deno.writeTextFile(`${test.folder}/file`, "old");
  test.server.faults.onSftp = (request) => {
    if (request !== "WRITE") return "serve";
    test.server.cutAll();
    return "stall";
  };
  await assertFails(
    () => test.session.writeFile(`${test.folder}/file`, new Uint8Array(9), { mode: 0o600 }),
    "UNAVAILABLE",
    /Lost the connection/,
  );
  assertEquals(text(await Deno.readFile(`${test.folder}/file`)), "old");
});

/** What a write that has not ended, or left something behind, is told by. */
function partFiles(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map((entry) => entry.name).filter((n) =>
    n.endsWith(".part")
  );
}
