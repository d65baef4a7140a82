import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../../base/error.ts";
import {
  LinuxContainerSecurityContext,
  Mount,
  MountPropagation,
  NamespaceMode,
} from "../../../cri/api.generated.ts";
import { mountsOf, rootPropagation } from "./mounts.ts";

const FILES = {
  hosts: "/p/hosts",
  hostname: "/p/hostname",
  resolvConf: "/p/resolv",
  shm: "/p/shm",
};
const { PROPAGATION_HOST_TO_CONTAINER, PROPAGATION_BIDIRECTIONAL } = MountPropagation;

function found(...mounts: Parameters<typeof Mount.fromPartial>[0][]) {
  return mounts.map((mount) => ({
    mount: Mount.fromPartial(mount),
    source: `real${mount.hostPath}`,
  }));
}

Deno.test("mountsOf() mounts what the pod asks for last, the deepest at the end", () => {
  const mounts = mountsOf(
    undefined,
    FILES,
    found(
      { containerPath: "/data/deep", hostPath: "/a" },
      { containerPath: "/data", hostPath: "/b", readonly: true },
      { containerPath: "/etc/hosts", hostPath: "/c" },
    ),
  );
  const destinations = mounts.map(({ destination }) => destination);
  assertEquals(destinations.slice(-3), ["/data", "/data/deep", "/etc/hosts"]);
  assertEquals(destinations.filter((path) => path === "/etc/hosts").length, 1);
  assertEquals(mounts.find(({ destination }) => destination === "/data"), {
    destination: "/data",
    type: "bind",
    source: "real/b",
    options: ["rbind", "rprivate", "ro"],
  });
});

Deno.test("mountsOf() lets only the privileged change what the kernel shows", () => {
  const options = (privileged: boolean) =>
    mountsOf(LinuxContainerSecurityContext.fromPartial({ privileged }), FILES, [])
      .filter(({ destination }) => destination.startsWith("/sys"))
      .map(({ options }) => options.at(-1));
  assertEquals([options(false), options(true)], [["ro", "ro"], ["rw", "rw"]]);
});

Deno.test("mountsOf() binds what the kernel shows when the pod has it mounted", () => {
  const sys = mountsOf(undefined, { ...FILES, sys: "/p/sys" }, [])
    .filter(({ destination }) => destination === "/sys");
  const options = ["rbind", "rprivate", "nosuid", "noexec", "nodev", "ro"];
  assertEquals(sys, [{ destination: "/sys", type: "bind", source: "/p/sys", options }]);
});

Deno.test("mountsOf() mounts the pod's files in /etc read-only with a read-only root", () => {
  const options = (readonlyRootfs: boolean) =>
    mountsOf(LinuxContainerSecurityContext.fromPartial({ readonlyRootfs }), FILES, [])
      .filter(({ source }) => source.startsWith("/p/"))
      .map(({ options }) => options.at(-1));
  assertEquals([options(false), options(true)], [["rw", "rw", "rw", "rw"], [
    "ro",
    "ro",
    "ro",
    "rw",
  ]]);
});

Deno.test("mountsOf() shows the node's shared memory with the node's IPC", () => {
  const context = LinuxContainerSecurityContext.fromPartial({
    namespaceOptions: { ipc: NamespaceMode.NODE },
  });
  const { shm: _, ...files } = FILES;
  const mounts = mountsOf(context, files, []);
  assertEquals(mounts.find(({ destination }) => destination === "/dev/shm")?.source, "/dev/shm");
});

for (
  const mount of [
    { recursiveReadOnly: true },
    { recursiveReadOnly: true, readonly: true, propagation: PROPAGATION_HOST_TO_CONTAINER },
    { recursiveReadOnly: true, readonly: true, propagation: PROPAGATION_BIDIRECTIONAL },
  ]
) {
  Deno.test(`mountsOf() refuses ${JSON.stringify(mount)}`, () => {
    assertThrows(
      () => mountsOf(undefined, FILES, found({ ...mount, containerPath: "/x", hostPath: "/y" })),
      CriError,
      "recursively read-only",
    );
  });
}

Deno.test("rootPropagation() is as wide as the widest of the mounts", () => {
  const of = (...propagations: MountPropagation[]) =>
    rootPropagation(propagations.map((propagation) => Mount.fromPartial({ propagation })));
  assertEquals(
    [
      of(),
      of(PROPAGATION_HOST_TO_CONTAINER),
      of(PROPAGATION_HOST_TO_CONTAINER, PROPAGATION_BIDIRECTIONAL),
    ],
    ["rprivate", "rslave", "rshared"],
  );
});
