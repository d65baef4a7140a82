import { assertEquals } from "@std/assert";
import { featuresOf } from "./features.ts";

const ALL = {
  mountOptions: ["ro", "rro"],
  linux: { namespaces: ["pid", "user"], mountExtensions: { idmap: { enabled: true } } },
};

for (
  const [what, features, kernel, readOnly, users] of [
    ["both can all", ALL, "6.1.0-18-amd64", true, true],
    ["the kernel is of the last version without", ALL, "5.11.22", false, false],
    ["the kernel is of the first version with it", ALL, "5.12.0", true, true],
    ["crun does not tell", {}, "6.1.0", false, false],
    ["crun cannot mount so", { ...ALL, mountOptions: ["ro"] }, "6.1.0", false, true],
    ["crun shifts no owners", { ...ALL, linux: { namespaces: ["user"] } }, "6.1.0", true, false],
    [
      "crun was built without shifting owners",
      { ...ALL, linux: { ...ALL.linux, mountExtensions: { idmap: { enabled: false } } } },
      "6.1.0",
      true,
      false,
    ],
    ["crun makes no namespaces of users", { ...ALL, linux: {} }, "6.1.0", true, false],
  ] as const
) {
  Deno.test(`featuresOf() is right when ${what}`, () => {
    assertEquals(featuresOf(JSON.stringify(features), kernel), {
      recursiveReadOnlyMounts: readOnly,
      supplementalGroupsPolicy: true,
      userNamespaces: users,
    });
  });
}
