import { askedImage } from "./container_status.ts";
import type { LayerUsage } from "../adapters/adapter.ts";
import {
  type DeepPartial,
  type Metric,
  type MetricDescriptor,
  type PodSandboxMetrics,
} from "../cri/api.generated.ts";
import type { ContainerRecord, SandboxRecord } from "../store/records.ts";
import { CONTAINER_METRICS, type MetricKind, NETWORK_METRICS } from "./metric_kinds.ts";
import { measuredAt } from "./container_stats.ts";
import type { Runtime } from "./runtime.ts";
import { containersBySandbox } from "./sandbox_stats.ts";

/** The labels that each metric has, named as cAdvisor's are; its own come after them. */
const LABEL_KEYS = ["container", "id", "image", "name", "namespace", "pod"] as const;
type Labels = Readonly<Record<typeof LABEL_KEYS[number], string>>;

/** ListMetricDescriptors: the same as long as the server runs, as api.proto asks. */
export function metricDescriptors(): MetricDescriptor[] {
  return [...CONTAINER_METRICS, ...NETWORK_METRICS].map(({ name, help, labels = [] }) => ({
    name,
    help,
    labelKeys: [...LABEL_KEYS, ...labels],
  }));
}

/** ListPodSandboxMetrics: of pods and containers of which something is known. */
export function listPodSandboxMetrics(runtime: Runtime): DeepPartial<PodSandboxMetrics>[] {
  const containers = containersBySandbox(runtime);
  return runtime.store.sandboxes.all().map((sandbox) => ({
    podSandboxId: sandbox.id,
    metrics: networkMetrics(runtime, sandbox),
    containerMetrics: (containers.get(sandbox.id) ?? []).flatMap((container) => {
      const metrics = containerMetrics(runtime, sandbox, container);
      return metrics === undefined ? [] : [{ containerId: container.id, metrics }];
    }),
  }));
}

/** A pod's network is no container's, and so are its labels. */
function networkMetrics(runtime: Runtime, sandbox: SandboxRecord): Metric[] {
  const traffic = runtime.traffic?.of(sandbox.id);
  if (traffic === undefined) return [];
  const labels = labelsOf(sandbox, { container: "", id: sandbox.id, image: "", name: sandbox.id });
  return traffic.interfaces.flatMap((one) =>
    metricsOf(runtime, NETWORK_METRICS, one, labels, traffic.measuredAtMs)
  );
}

function containerMetrics(
  runtime: Runtime,
  sandbox: SandboxRecord,
  container: ContainerRecord,
): Metric[] | undefined {
  const { id, config } = container;
  const usage = runtime.adapter.usage(id);
  if (usage === undefined) return undefined;
  const layer: LayerUsage | undefined = runtime.adapter.layerUsage?.(id);
  const labels = labelsOf(sandbox, {
    container: config.metadata?.name ?? "",
    id,
    image: askedImage(config),
    name: id,
  });
  const subject = { usage, layer, container };
  return metricsOf(runtime, CONTAINER_METRICS, subject, labels, usage.measuredAtMs);
}

function labelsOf(
  { config: { metadata } }: SandboxRecord,
  own: Omit<Labels, "namespace" | "pod">,
): Labels {
  return { ...own, namespace: metadata?.namespace ?? "", pod: metadata?.name ?? "" };
}

function metricsOf<Subject>(
  runtime: Runtime,
  kinds: readonly MetricKind<Subject>[],
  subject: Subject,
  labels: Labels,
  measuredAtMs: number,
): Metric[] {
  return kinds.flatMap(({ name, type, samples }) =>
    samples(subject).flatMap(({ value, labels: own = [], atMs = measuredAtMs }) =>
      value === undefined ? [] : {
        name,
        timestamp: measuredAt(runtime, atMs) ?? 0n,
        metricType: type,
        labelValues: [...LABEL_KEYS.map((key) => labels[key]), ...own],
        value: { value },
      }
    )
  );
}
