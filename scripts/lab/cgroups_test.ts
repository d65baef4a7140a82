import { assertEquals } from "@std/assert";
import { parseHierarchies } from "./cgroups.ts";

Deno.test("parseHierarchies() finds every hierarchy of a machine with version 1 beside version 2", () => {
  const cgroup = [
    "9:name=systemd:/",
    "4:memory:/jobs/7",
    "3:cpu,cpuacct:/",
    "2:perf_event:/",
    "0::/",
    "",
  ].join("\n");
  const mountinfo = [
    "20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda rw",
    "30 20 0:26 / /sys/fs/cgroup/memory rw,relatime shared:2 master:3 - cgroup cgroup rw,memory",
    "31 20 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct",
    "32 20 0:28 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd",
    "33 20 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw",
    "",
  ].join("\n");
  assertEquals(parseHierarchies(cgroup, mountinfo), [
    {
      controllers: "none,name=systemd",
      mountName: "systemd",
      ownFolder: "/sys/fs/cgroup/systemd",
    },
    { controllers: "memory", mountName: "memory", ownFolder: "/sys/fs/cgroup/memory/jobs/7" },
    {
      controllers: "cpu,cpuacct",
      mountName: "cpu,cpuacct",
      ownFolder: "/sys/fs/cgroup/cpu,cpuacct",
    },
    { controllers: "", mountName: "unified", ownFolder: "/sys/fs/cgroup/unified" },
  ]);
});

Deno.test("parseHierarchies() mounts version 2 at the folder itself when it is alone", () => {
  const mountinfo = "33 20 0:29 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n";
  assertEquals(parseHierarchies("0::/user.slice/a.scope\n", mountinfo), [
    { controllers: "", mountName: "", ownFolder: "/sys/fs/cgroup/user.slice/a.scope" },
  ]);
});

Deno.test("parseHierarchies() counts from the mount's root when that is not the hierarchy's", () => {
  const mountinfo = "33 20 0:29 /box /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n";
  assertEquals(parseHierarchies("0::/box/inner\n", mountinfo), [
    { controllers: "", mountName: "", ownFolder: "/sys/fs/cgroup/inner" },
  ]);
});
