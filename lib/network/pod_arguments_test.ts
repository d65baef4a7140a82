import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../base/error.ts";
import { type DeepPartial, PodSandboxConfig, Protocol } from "../cri/api.generated.ts";
import { parsePodCidrs, podArguments, podCapabilities } from "./pod_arguments.ts";

const metadata = { name: "web-0", namespace: "shop", uid: "u-1", attempt: 2 };
const pod = (fields: DeepPartial<PodSandboxConfig> = {}) =>
  PodSandboxConfig.fromPartial({ metadata, ...fields });
const annotations = { "io.kubernetes.cri.pod-annotations": {} };

Deno.test("podArguments() tells who the pod is, in containerd's words", () => {
  assertEquals(
    podArguments("s1", pod()),
    "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=s1;K8S_POD_UID=u-1",
  );
});

for (const name of ["a;IP=10.0.0.1", "a=b", "a\0b"]) {
  Deno.test(`podArguments() refuses the name ${JSON.stringify(name)}, which would be another argument`, () => {
    const config = pod({ metadata: { ...metadata, name } });
    const error = assertThrows(() => podArguments("s1", config), CriError, "K8S_POD_NAME");
    assertEquals(error.code, "INVALID_ARGUMENT");
  });
}

const BURST = 2 ** 32 - 1;
const CAPABILITIES: readonly [
  name: string,
  config: DeepPartial<PodSandboxConfig>,
  cidrs: string[],
  capabilities: unknown,
][] = [
  ["nothing when the pod asks for nothing", {}, [], {}],
  [
    "host ports, and no port without one",
    {
      portMappings: [
        { hostPort: 8080, containerPort: 80, protocol: Protocol.TCP },
        { hostPort: 0, containerPort: 81 },
        { hostPort: 53, containerPort: 5353, protocol: Protocol.UDP, hostIp: "192.0.2.1" },
        { hostPort: 9, containerPort: 9, protocol: Protocol.SCTP },
      ],
    },
    [],
    {
      portMappings: [
        { hostPort: 8080, containerPort: 80, protocol: "tcp", hostIP: "" },
        { hostPort: 53, containerPort: 5353, protocol: "udp", hostIP: "192.0.2.1" },
        { hostPort: 9, containerPort: 9, protocol: "sctp", hostIP: "" },
      ],
    },
  ],
  [
    "name servers",
    {
      dnsConfig: { servers: ["192.0.2.53"], searches: ["svc"], options: ["ndots:5"] },
    },
    [],
    { dns: { servers: ["192.0.2.53"], searches: ["svc"], options: ["ndots:5"] } },
  ],
  ["the pod's cgroup", { linux: { cgroupParent: "/kubepods/pod1" } }, [], {
    cgroupPath: "/kubepods/pod1",
  }],
  ["the node's pod addresses, a list for each family", {}, ["10.1.0.0/24", "fd00::/64"], {
    ipRanges: [[{ subnet: "10.1.0.0/24" }], [{ subnet: "fd00::/64" }]],
  }],
  ["IPv6 pod addresses alone", {}, ["fd00::/64"], { ipRanges: [[{ subnet: "fd00::/64" }]] }],
];

for (const [name, config, cidrs, capabilities] of CAPABILITIES) {
  Deno.test(`podCapabilities() gives ${name}`, () => {
    assertEquals(
      podCapabilities(pod(config), cidrs),
      { ...annotations, ...capabilities as Record<string, unknown> },
    );
  });
}

const INGRESS = "kubernetes.io/ingress-bandwidth";
const EGRESS = "kubernetes.io/egress-bandwidth";
const BANDWIDTHS: readonly [annotations: Record<string, string>, bandwidth: unknown][] = [
  [{ [INGRESS]: "10M" }, { ingressRate: 1e7, ingressBurst: BURST }],
  [{ [EGRESS]: "1Gi" }, { egressRate: 2 ** 30, egressBurst: BURST }],
  [{ [INGRESS]: "1e6", [EGRESS]: "1000" }, {
    ingressRate: 1e6,
    ingressBurst: BURST,
    egressRate: 1000,
    egressBurst: BURST,
  }],
  [{ [INGRESS]: "1.5k" }, { ingressRate: 1500, ingressBurst: BURST }],
  [{ [INGRESS]: "1500500m" }, { ingressRate: 1501, ingressBurst: BURST }],
  [{ [INGRESS]: "1P" }, { ingressRate: 1e15, ingressBurst: BURST }],
];

for (const [given, bandwidth] of BANDWIDTHS) {
  Deno.test(`podCapabilities() limits the bandwidth when the annotations are ${JSON.stringify(given)}`, () => {
    assertEquals(podCapabilities(pod({ annotations: given }), [])["bandwidth"], bandwidth);
  });
}

for (const text of ["", "fast", "10 M", "10Mb", "-1M", "999", "2P", "1e", "0x10", "M"]) {
  Deno.test(`podCapabilities() refuses the bandwidth ${JSON.stringify(text)}`, () => {
    const config = pod({ annotations: { [EGRESS]: text } });
    const error = assertThrows(() => podCapabilities(config, []), CriError, EGRESS);
    assertEquals(error.code, "INVALID_ARGUMENT");
  });
}

for (
  const [changes, why] of [
    [{ protocol: 9 as Protocol }, "the protocol 9"],
    [{ hostPort: 65_536 }, "the port 65536 of the node for its port 80: both must be from 1"],
    [{ containerPort: 0 }, "its port 0: both must be from 1 to 65535"],
    [{ containerPort: -1 }, "its port -1: both must be from 1 to 65535"],
    [{ hostIp: "10.0.0.1\n" }, 'the node\'s address "10.0.0.1\\n": it must be an IP address'],
    [{ hostIp: "here" }, "it must be an IP address"],
  ] as const
) {
  Deno.test(`podCapabilities() refuses a port of the node with ${JSON.stringify(changes)}`, () => {
    const portMappings = [{ containerPort: 80, hostPort: 8080, ...changes }];
    const error = assertThrows(() => podCapabilities(pod({ portMappings }), []), CriError, why);
    assertEquals(error.code, "INVALID_ARGUMENT");
  });
}

for (
  const [text, cidrs] of [
    ["", []],
    ["10.1.0.0/24", ["10.1.0.0/24"]],
    ["10.1.0.0/24, fd00::/64", ["10.1.0.0/24", "fd00::/64"]],
  ] as const
) {
  Deno.test(`parsePodCidrs() reads ${JSON.stringify(text)}`, () => {
    assertEquals(parsePodCidrs(text), cidrs);
  });
}

for (
  const text of ["10.1.0.0", "10.1.0.0/33", "fd00::/129", "x/8", "10.1.0.0/24/1", "10.1.0.0/-1"]
) {
  Deno.test(`parsePodCidrs() refuses ${JSON.stringify(text)}`, () => {
    assertThrows(() => parsePodCidrs(text), CriError, "Cannot use the pod CIDR");
  });
}
