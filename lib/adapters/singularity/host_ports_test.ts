import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { NamespaceMode, PodSandboxConfig } from "../../cri/api.generated.ts";
import { checkHostPorts } from "./host_ports.ts";

function podWith(hostPort: number, containerPort: number, network = NamespaceMode.POD) {
  return PodSandboxConfig.fromPartial({
    portMappings: [{ hostPort: 0, containerPort: 1 }, { hostPort, containerPort }],
    linux: { securityContext: { namespaceOptions: { network } } },
  });
}

Deno.test("checkHostPorts() refuses another port of the node when the pod has no network of its own", () => {
  const error = assertThrows(() => checkHostPorts(podWith(8080, 80), false), CriError);
  assertEquals([error.code, error.message], [
    "INVALID_ARGUMENT",
    "Cannot give the pod the host port 8080 for its port 80: without --enable-pod-network pods listen at the node's " +
    "ports, so the numbers must be the same.",
  ]);
});

Deno.test("checkHostPorts() refuses one address of the node when the pod has no network of its own", () => {
  const config = PodSandboxConfig.fromPartial({
    portMappings: [{ hostPort: 80, containerPort: 80, hostIp: "127.0.0.1" }],
  });
  checkHostPorts(config, true);
  const error = assertThrows(() => checkHostPorts(config, false), CriError);
  assertEquals(
    error.message.split(":")[0],
    'Cannot give the pod the host port 80 at "127.0.0.1" alone',
  );
});

for (
  const [what, config, ownNetwork] of [
    ["the pod has a network of its own", podWith(8080, 80), true],
    ["it is the same port", podWith(80, 80), false],
    ["the pod asks for none", podWith(0, 80), false],
    ["the pod asks for the node's network", podWith(8080, 80, NamespaceMode.NODE), false],
  ] as const
) {
  Deno.test(`checkHostPorts() takes a port of the node when ${what}`, () => {
    checkHostPorts(config, ownNetwork);
  });
}
