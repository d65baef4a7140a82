import { assert, assertEquals } from "@std/assert";
import type { CriCode } from "../../base/error.ts";
import { MAX_LISTED_NAMES } from "./session.ts";
import { MAX_REQUESTS_IN_FLIGHT } from "./sftp_channel.ts";
import { assertFails, assertSameBytes, everyByte, startTestSession } from "./test_session.ts";

/** Around the sizes where a piece, a wave of pieces or a packet of a small server ends. */
const SIZES_BYTES = [0, 1, 30_720, 30_721, 131_072, 131_073, 2_228_224, 2_228_225, 5_000_000];

Deno.test("ClusterSession.readFile() keeps every byte when files have any size", async (t) => {
  await using test = await startTestSession();
  const path = `${test.folder}/file`;
  for (const size of SIZES_BYTES) {
    await t.step(`${size} bytes`, async () => {
      const bytes = everyByte(size);
      await Deno.writeFile(path, bytes);
      assertSameBytes(await test.session.readFile(path, size), bytes);
      assertEquals((await test.session.stat(path))?.sizeBytes, size);
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

Deno.test("ClusterSession.list() names all that a folder holds when it takes several requests", async () => {
  await using test = await startTestSession();
  const names = ["a", "b c", "é", "sub", ".hidden"];
  const folder = `${test.folder}/folder`;
  for (const name of names) await Deno.mkdir(`${folder}/${name}`, { recursive: true });
  assertEquals((await test.session.list(folder))?.toSorted(), names.toSorted());
  assertEquals(await test.session.list(`${folder}/sub`), []);
  assertEquals(await test.session.list(`${test.folder}/none`), undefined);
});

Deno.test("ClusterSession.list() stops asking when a folder is very large", async () => {
  let requests = 0;
  await using test = await startTestSession({
    faults: {
      onSftp: (request) => {
        if (request === "READDIR") requests++;
        return "serve";
      },
    },
  });
  const folder = `${test.folder}/folder`;
  await Deno.mkdir(folder);
  for (let i = 0; i < MAX_LISTED_NAMES + 10; i++) await Deno.writeTextFile(`${folder}/${i}`, "");
  assertEquals((await test.session.list(folder))?.length, MAX_LISTED_NAMES);
  assertEquals(requests, MAX_LISTED_NAMES / 2);
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

const FAILURES: {
  when: string;
  work: (test: Awaited<ReturnType<typeof startTestSession>>) => Promise<unknown>;
  code: CriCode;
  message: RegExp;
}[] = [
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
];

for (const { when, work, code, message } of FAILURES) {
  Deno.test(`ClusterSession fails with ${code} when ${when}`, async () => {
    await using test = await startTestSession();
    await assertFails(() => work(test), code, message);
  });
}

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
