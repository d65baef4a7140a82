import { isIP } from "node:net";
import { CriError } from "../base/error.ts";
import { shown } from "../base/shown.ts";
import { type PodSandboxConfig, type PortMapping, Protocol } from "../cri/api.generated.ts";
import type { JsonObject } from "./json.ts";

/** The annotations by which a pod limits its bandwidth (kubernetes.io, "Network Plugins"). */
const BANDWIDTH_ANNOTATIONS = {
  ingress: "kubernetes.io/ingress-bandwidth",
  egress: "kubernetes.io/egress-bandwidth",
} as const;

/** Bits a second that make sense (Kubernetes' pkg/util/bandwidth): 1k to 1P. */
const MIN_BANDWIDTH_BITS = 1e3;
const MAX_BANDWIDTH_BITS = 1e15;

/** The burst that containerd allows, in bits: the most that the kernel's token bucket takes. */
const BURST_BITS = 2 ** 32 - 1;

/** The capability by which containerd gives plugins a pod's annotations. */
const ANNOTATIONS_CAPABILITY = "io.kubernetes.cri.pod-annotations";

/**
 * What a plugin may know of a pod whatever its configuration says: CNI_ARGS, with containerd's names. @throws CriError
 * INVALID_ARGUMENT.
 */
export function podArguments(sandboxId: string, { metadata }: PodSandboxConfig): string {
  const pairs = {
    IgnoreUnknown: "1",
    K8S_POD_NAMESPACE: metadata?.namespace ?? "",
    K8S_POD_NAME: metadata?.name ?? "",
    K8S_POD_INFRA_CONTAINER_ID: sandboxId,
    K8S_POD_UID: metadata?.uid ?? "",
  };
  for (const [key, value] of Object.entries(pairs)) {
    // CNI_ARGS knows no quoting; a kubelet's names have none of these.
    if (!/[;=\0]/.test(value)) continue;
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot tell network plugins of the pod as ${key} must be without ';' and '=': it is ${
        shown(value)
      }.`,
    );
  }
  return Object.entries(pairs).map(([key, value]) => `${key}=${value}`).join(";");
}

/**
 * What a pod asks of its network, by CNI's names of capabilities (CONVENTIONS.md, and containerd's annotations). Of the
 * node's pod addresses there is one list for each family, as host-local wants it.
 * @throws CriError INVALID_ARGUMENT for a bandwidth or a port that is none.
 */
export function podCapabilities(
  config: PodSandboxConfig,
  podCidrs: readonly string[],
): JsonObject {
  const portMappings = config.portMappings
    // A port of the container alone asks for nothing on the node.
    .filter(({ hostPort }) => hostPort > 0)
    .map(cniPort);
  const bandwidth = podBandwidth(config.annotations);
  const { dnsConfig } = config;
  const cgroupPath = config.linux?.cgroupParent ?? "";
  const families = [4, 6].flatMap((family) => {
    const subnets = podCidrs.filter((cidr) => isIP(cidr.split("/")[0] ?? "") === family);
    return subnets.length === 0 ? [] : [subnets.map((subnet) => ({ subnet }))];
  });
  return {
    [ANNOTATIONS_CAPABILITY]: config.annotations,
    ...(portMappings.length === 0 ? {} : { portMappings }),
    ...(bandwidth === undefined ? {} : { bandwidth }),
    ...(dnsConfig === undefined ? {} : {
      dns: {
        servers: dnsConfig.servers,
        searches: dnsConfig.searches,
        options: dnsConfig.options,
      },
    }),
    ...(cgroupPath === "" ? {} : { cgroupPath }),
    ...(families.length === 0 ? {} : { ipRanges: families }),
  };
}

/**
 * The CIDRs of UpdateRuntimeConfig, which kubelets separate by commas.
 * @throws CriError INVALID_ARGUMENT for what is no CIDR.
 */
export function parsePodCidrs(podCidr: string): string[] {
  const cidrs = podCidr.split(",").map((cidr) => cidr.trim()).filter((cidr) => cidr !== "");
  for (const cidr of cidrs) {
    const [address = "", length = "", ...rest] = cidr.split("/");
    const bits = { 0: -1, 4: 32, 6: 128 }[isIP(address)] ?? -1;
    if (rest.length === 0 && /^\d{1,3}$/.test(length) && Number(length) <= bits) continue;
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot use the pod CIDR ${shown(cidr)} as it must be like 10.244.1.0/24 or fd00:1::/64.`,
    );
  }
  return cidrs;
}

const MAX_PORT = 65_535;

/** By CNI's words. */
const PROTOCOLS: Readonly<Record<Protocol, string>> = {
  [Protocol.TCP]: "tcp",
  [Protocol.UDP]: "udp",
  [Protocol.SCTP]: "sctp",
};

/** What a plugin would fail at, it would also fail to remove. @throws CriError INVALID_ARGUMENT. */
function cniPort({ hostPort, containerPort, protocol, hostIp }: PortMapping): JsonObject {
  for (const port of [hostPort, containerPort]) {
    if (port > 0 && port <= MAX_PORT) continue;
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot give the pod the port ${hostPort} of the node for its port ${containerPort}: both must be from 1 to ` +
        `${MAX_PORT}.`,
    );
  }
  if (hostIp !== "" && isIP(hostIp) === 0) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot give the pod a port at the node's address ${
        shown(hostIp)
      }: it must be an IP address.`,
    );
  }
  return { hostPort, containerPort, protocol: protocolName(protocol), hostIP: hostIp };
}

function protocolName(protocol: Protocol): string {
  const name = PROTOCOLS[protocol];
  if (name !== undefined) return name;
  throw new CriError(
    "INVALID_ARGUMENT",
    `Cannot give the pod a port of the node by the protocol ${protocol}: it must be TCP, UDP or SCTP.`,
  );
}

function podBandwidth(annotations: Readonly<Record<string, string>>): JsonObject | undefined {
  const ingress = bitsOf(annotations, BANDWIDTH_ANNOTATIONS.ingress);
  const egress = bitsOf(annotations, BANDWIDTH_ANNOTATIONS.egress);
  if (ingress === undefined && egress === undefined) return undefined;
  return {
    ...(ingress === undefined ? {} : { ingressRate: ingress, ingressBurst: BURST_BITS }),
    ...(egress === undefined ? {} : { egressRate: egress, egressBurst: BURST_BITS }),
  };
}

function bitsOf(annotations: Readonly<Record<string, string>>, name: string): number | undefined {
  if (!Object.hasOwn(annotations, name)) return undefined;
  const text = annotations[name] ?? "";
  const bits = quantity(text);
  if (bits >= MIN_BANDWIDTH_BITS && bits <= MAX_BANDWIDTH_BITS) return Math.ceil(bits);
  throw new CriError(
    "INVALID_ARGUMENT",
    `Cannot limit the pod's bandwidth as its annotation ${name} must be a quantity from 1k to 1P bits a second: ` +
      `it is ${shown(text)}.`,
  );
}

const DECIMAL = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
const BINARY = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/**
 * A quantity of Kubernetes (apimachinery, resource.Quantity): a number with a suffix or an exponent; NaN for what is
 * none.
 */
function quantity(text: string): number {
  const [, number, exponent, suffix] =
    /^([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?\d+)|([A-Za-z]{0,2}))$/.exec(text) ?? [];
  if (number === undefined) return NaN;
  if (exponent !== undefined) return Number(number) * 10 ** Number(exponent);
  const decimal = DECIMAL.indexOf(suffix ?? "");
  if (decimal !== -1) return Number(number) * 1000 ** (decimal - DECIMAL.indexOf(""));
  const binary = BINARY.indexOf(suffix ?? "");
  return binary === -1 ? NaN : Number(number) * 1024 ** (binary + 1);
}
