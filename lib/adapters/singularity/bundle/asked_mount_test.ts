import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../../base/error.ts";
import { Mount, type MountPropagation } from "../../../cri/api.generated.ts";
import { askedMount } from "./asked_mount.ts";

type Changes = Parameters<typeof Mount.fromPartial>[0];

function made(changes: Changes, source = "/source") {
  const mount = Mount.fromPartial({ containerPath: "/x", hostPath: source, ...changes });
  return askedMount({ mount, source });
}

const RANGE = { hostId: 100_000, containerId: 0, length: 65_536 };

const OPTIONS: [changes: Changes, options: string][] = [
  [{}, "rbind rprivate rw"],
  [{ readonly: true }, "rbind rprivate ro"],
  [{ readonly: true, recursiveReadOnly: true }, "rbind rprivate rro"],
  [{ image: { image: "data" } }, "rbind rprivate ro"],
  [
    { readonly: true, mountOptions: ["noexec", "nodev", "rw"] },
    "rbind rprivate noexec nodev rw ro",
  ],
  [{ mountOptions: ["ro", "noexec"] }, "rbind rprivate ro noexec ro"],
  [{ uidMappings: [RANGE], gidMappings: [RANGE] }, "rbind rprivate rw idmap"],
];

for (const [changes, options] of OPTIONS) {
  Deno.test(`askedMount() makes ${options} of ${JSON.stringify(changes)}`, () => {
    assertEquals(made(changes).options.join(" "), options);
  });
}

Deno.test("askedMount() tells crun how the mount's ids are the container's", () => {
  const { uidMappings, gidMappings } = made({ uidMappings: [RANGE], gidMappings: [RANGE] });
  const mapping = { containerID: 0, hostID: 100_000, size: 65_536 };
  assertEquals([uidMappings, gidMappings], [[mapping], [mapping]]);
  assertEquals("uidMappings" in made({}), false);
});

const PLACES: [containerPath: string, destination: string][] = [
  ["/data/", "/data"],
  ["data", "/data"],
  ["/a/../etc//hosts", "/etc/hosts"],
  ["/proc/meminfo", "/proc/meminfo"],
  ["/process", "/process"],
];

for (const [containerPath, destination] of PLACES) {
  Deno.test(`askedMount() mounts ${containerPath} at ${destination}`, () => {
    assertEquals(made({ containerPath }).destination, destination);
  });
}

Deno.test("askedMount() mounts the node's /proc in the place of the container's, and nothing else", () => {
  assertEquals(made({ containerPath: "/proc" }, "/proc").destination, "/proc");
});

const REFUSED: [changes: Changes, message: string][] = [
  [{ containerPath: "" }, "it must be a path below /"],
  [{ containerPath: "/.." }, "it must be a path below /"],
  [{ containerPath: "/a\0b" }, "it must not hold NUL characters"],
  [{ containerPath: `/${"a".repeat(256)}` }, "each name in it must have 255 bytes at most"],
  [{ propagation: 9 as MountPropagation }, "its propagation 9 is none that there is"],
  [
    { uidMappings: [{ containerId: 0, hostId: 1, length: 0 }] },
    "its mappings of ids must not be empty",
  ],
  [
    { gidMappings: [{ containerId: 0, hostId: 2 ** 32 - 1, length: 1 }] },
    "its mappings of ids must not be empty, and end before 4294967295",
  ],
  [{ containerPath: "/proc/" }, "at or below /proc"],
  [{ containerPath: "/x/../proc/self" }, "at or below /proc"],
  [{ mountOptions: ["noexec", "size=1k"] }, '"size=1k" is no option of a bind mount'],
  [{ recursiveReadOnly: true }, "to be recursively read-only it must be read-only"],
];

for (const [changes, message] of REFUSED) {
  Deno.test(`askedMount() refuses ${JSON.stringify(changes)}`, () => {
    assertThrows(() => made(changes), CriError, message);
  });
}
