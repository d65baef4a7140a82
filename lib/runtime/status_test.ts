import { assertEquals } from "@std/assert";
import { CgroupDriver } from "../cri/api.generated.ts";
import { runtimeConfig, runtimeStatus, version } from "./status.ts";
import { withRuntime } from "./test_runtime.ts";

Deno.test("version() is what the kubelet accepts", () => {
  const { version: api, runtimeName, runtimeApiVersion } = version();
  assertEquals([api, runtimeName, runtimeApiVersion], ["0.1.0", "multicri", "v1"]);
});

Deno.test("runtimeStatus() stays ready while a cluster cannot be reached", () =>
  withRuntime(async ({ runtime, adapter }) => {
    const away = { type: "ClusterReachable/u@h", status: false, reason: "R", message: "m" };
    adapter.conditionList = [away];
    const { status, runtimeHandlers, info } = await runtimeStatus(runtime, false);
    assertEquals(status?.conditions.map(({ type, status }) => [type, status]), [
      ["RuntimeReady", true],
      ["NetworkReady", true],
      ["ClusterReachable/u@h", false],
    ]);
    assertEquals([runtimeHandlers.map(({ name }) => name), info], [["", "multicri"], {}]);
  }));

Deno.test("runtimeStatus() shows the configuration when verbose", () =>
  withRuntime(async ({ runtime }) => {
    const { info } = await runtimeStatus(runtime, true);
    assertEquals(JSON.parse(info["config"] ?? "").rootDir, "/var/lib/multi-cri");
  }));

for (
  const [systemdNode, driver] of [
    [true, CgroupDriver.SYSTEMD],
    [false, CgroupDriver.CGROUPFS],
  ] as const
) {
  Deno.test(`runtimeConfig() says ${driver} when systemdNode is ${systemdNode}`, () =>
    withRuntime(async ({ runtime }) => {
      const config = await Promise.resolve(runtimeConfig({ ...runtime, systemdNode }));
      assertEquals(config.linux?.cgroupDriver, driver);
    }));
}
