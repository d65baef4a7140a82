import { assertEquals, assertStrictEquals } from "@std/assert";
import { CriError, messageOf } from "../base/error.ts";
import { namingFullDisk } from "./full_disk.ts";

const DIRECTORIES = {
  podLogsDir: "/var/log/pods",
  resourcesCachePath: "/var/lib/multicri/images",
  rootDir: "/var/lib/multicri",
  stateDir: "/run/multicri",
};

const TOLD: Record<string, [thrown: Error, task: string, where: string]> = {
  "the kernel's words of a file": [
    new Error("No space left on device (os error 28): writefile '/run/multicri/containers/a/b'"),
    "Cannot write /run/multicri/containers/a/b",
    "/run/multicri (--state-dir)",
  ],
  "a program's": [
    new CriError(
      "INTERNAL",
      "Cannot make the pod web: mkdir: cannot create directory '/run/multicri/pods/a/etc': No space left on device.",
    ),
    "Cannot make the pod web",
    "/run/multicri (--state-dir)",
  ],
  "SQLite's": [
    new CriError(
      "RESOURCE_EXHAUSTED",
      "Cannot write records into /var/lib/multicri/networks.db: database or disk is full.",
    ),
    "Cannot write records into /var/lib/multicri/networks.db",
    "/var/lib/multicri (--root-dir)",
  ],
  "those of a directory within another": [
    new Error("write /var/lib/multicri/images/x.sif: no space left on device"),
    "Cannot write /var/lib/multicri/images",
    "/var/lib/multicri/images (--resources-cache-path)",
  ],
  "those of a log that the records of another directory held up": [
    new Error(
      "Cannot write the container's log /var/log/pods/a/0.log: Cannot write records into /run/multicri/logs.db: database or disk is full",
    ),
    "Cannot write the container's log /var/log/pods/a/0.log",
    "/run/multicri (--state-dir)",
  ],
  "a quota's": [
    new Error("Disk quota exceeded (os error 122): mkdir '/var/log/pods/a'"),
    "Cannot write /var/log/pods/a",
    "/var/log/pods (--pod-logs-dir)",
  ],
};

for (const [what, [thrown, task, where]] of Object.entries(TOLD)) {
  Deno.test(`namingFullDisk() names the flag when it is given ${what} words`, () => {
    const error = namingFullDisk(thrown, DIRECTORIES);
    assertEquals(
      [error instanceof CriError && error.code, messageOf(error)],
      [
        "RESOURCE_EXHAUSTED",
        `${task}: the file system of ${where} has no room, or no inode, left; free some.`,
      ],
    );
  });
}

for (
  const words of [
    "write cpuset.cpus: No space left on device",
    "Cannot mount /run/multicri/x: Permission denied",
    "mkdir /run/multicri-other/x: No space left on device",
  ]
) {
  Deno.test(`namingFullDisk() changes nothing when the words are ${words}`, () => {
    const error = new Error(words);
    assertStrictEquals(namingFullDisk(error, DIRECTORIES), error);
  });
}
