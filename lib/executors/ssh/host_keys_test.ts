import { assert, assertEquals } from "@std/assert";
import { HostKeys } from "./host_keys.ts";
import { formatKnownHost } from "./known_hosts.ts";
import { assertFails, namesIn, recordingLogger } from "./test_session.ts";

function wireKey(type: string, last: number): Uint8Array {
  const name = new TextEncoder().encode(type);
  return Uint8Array.of(0, 0, 0, name.length, ...name, last);
}
const KEY = wireKey("ssh-ed25519", 1);
const OTHER_KEY = wireKey("ssh-ed25519", 2);
const RSA_KEY = wireKey("ssh-rsa", 3);

async function inFolder(
  work: (hostKeys: HostKeys, path: string, lines: string[]) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "multicri-hosts-" });
  const { logger, lines } = recordingLogger();
  try {
    await work(new HostKeys(`${folder}/known_hosts`, logger), `${folder}/known_hosts`, lines);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("HostKeys.check() records a key once, privately and with a line in the log, when a host is new", async () => {
  await inFolder(async (hostKeys, path, lines) => {
    await Deno.writeTextFile(path, "# mine, without a newline at the end");
    await hostKeys.check("h", 22, KEY);
    await hostKeys.check("h", 22, KEY);
    assertEquals(
      await Deno.readTextFile(path),
      `# mine, without a newline at the end\n${formatKnownHost("h", 22, KEY)}`,
    );
    assertEquals((await Deno.stat(path)).mode, 0o100600);
    assertEquals(lines.length, 1);
    assert(/host=h:22 type=ssh-ed25519 fingerprint="?SHA256:/.test(lines[0] ?? ""), lines[0]);
  });
});

Deno.test("HostKeys.check() keeps every host when many are new at once", async () => {
  await inFolder(async (hostKeys, path) => {
    const ports = Array.from({ length: 50 }, (_, index) => 1000 + index);
    await Promise.all(
      ports.map((port) => hostKeys.check("h", port, wireKey("ssh-ed25519", port % 251))),
    );
    const text = await Deno.readTextFile(path);
    for (const port of ports) assert(text.includes(`[h]:${port} `), `port ${port}`);
    assertEquals(await namesIn(path.replace("/known_hosts", "")), ["known_hosts"]);
  });
});

Deno.test("HostKeys.check() accepts any of a host's recorded keys when it has several", async () => {
  await inFolder(async (hostKeys, path) => {
    await Deno.writeTextFile(
      path,
      formatKnownHost("h", 22, KEY) + formatKnownHost("h", 22, RSA_KEY),
    );
    await hostKeys.check("h", 22, RSA_KEY);
    await hostKeys.check("h", 22, KEY);
    assertEquals(await hostKeys.recordedTypes("h", 22), ["ssh-ed25519", "ssh-rsa"]);
    assertEquals(await hostKeys.recordedTypes("other", 22), []);
  });
});

const REFUSALS: { when: string; text: string; key: Uint8Array; message: RegExp }[] = [
  {
    when: "another key of the same kind is recorded",
    text: "#\n" + formatKnownHost("h", 22, OTHER_KEY),
    key: KEY,
    message:
      /^Cannot trust h:22 as its host key must be ssh-ed25519 SHA256:\S+, recorded at \S+known_hosts:2: the server shows ssh-ed25519 SHA256:\S+\. If its administrator confirms the new key, delete that line$/,
  },
  {
    when: "a key of another kind is recorded",
    text: formatKnownHost("h", 22, RSA_KEY),
    key: KEY,
    message:
      /must be ssh-rsa SHA256:\S+ recorded at \S+known_hosts:1: the server shows ssh-ed25519/,
  },
  {
    when: "the recorded key is broken",
    text: "h ssh-ed25519 AAAA!\n",
    key: KEY,
    message: /must be an unreadable key, recorded at \S+known_hosts:1/,
  },
  {
    when: "the key is revoked",
    text: formatKnownHost("h", 22, KEY) + "@revoked * ssh-ed25519 " + KEY.toBase64(),
    key: KEY,
    message: /SHA256:\S+ is marked @revoked at \S+known_hosts:2$/,
  },
];

for (const { when, text, key, message } of REFUSALS) {
  Deno.test(`HostKeys.check() refuses and records nothing when ${when}`, async () => {
    await inFolder(async (hostKeys, path) => {
      await Deno.writeTextFile(path, text);
      await assertFails(() => hostKeys.check("h", 22, key), "FAILED_PRECONDITION", message);
      assertEquals(await Deno.readTextFile(path), text);
    });
  });
}

Deno.test("HostKeys.check() fails when the file cannot be read", async () => {
  await inFolder(async (hostKeys, path) => {
    await Deno.mkdir(path);
    await assertFails(
      () => hostKeys.check("h", 22, KEY),
      "FAILED_PRECONDITION",
      /known_hosts must be a readable known_hosts file/,
    );
  });
});

Deno.test("HostKeys.check() fails when its folder does not exist", async () => {
  const { logger } = recordingLogger();
  await assertFails(
    () => new HostKeys("/no/such/folder/known_hosts", logger).check("h", 22, KEY),
    "FAILED_PRECONDITION",
    /^Cannot record a host key as \/no\/such\/folder must be a folder we can write to/,
  );
});

for (const damage of ["garbage", "h ssh-ed25519", "\0\0\0", "h ssh-ed25519 not*base64"]) {
  Deno.test(`HostKeys.check() pins no new host when the file holds ${JSON.stringify(damage)}`, async () => {
    await inFolder(async (hostKeys, path) => {
      const text = `# hosts\n${formatKnownHost("other", 22, RSA_KEY)}${damage}\n`;
      await Deno.writeTextFile(path, text);
      await assertFails(
        () => hostKeys.check("new", 22, KEY),
        "FAILED_PRECONDITION",
        /known_hosts:3 does not/,
      );
      assertEquals(await Deno.readTextFile(path), text);
      await hostKeys.check("other", 22, RSA_KEY);
    });
  });
}
