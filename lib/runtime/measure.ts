import type { Runtime } from "./runtime.ts";

/** Measures what containers use, where that is measured when somebody asks. */
export async function measureContainers({ adapter }: Runtime): Promise<void> {
  await adapter.measure?.();
}

/** Measures the same, and what went through the networks that pods have of their own. */
export async function measurePods(runtime: Runtime): Promise<void> {
  const { traffic, networks, store } = runtime;
  await Promise.all([
    measureContainers(runtime),
    traffic?.measure(() =>
      new Map(
        store.sandboxes.all().flatMap(({ id }) => {
          const network = networks?.of(id);
          return network === undefined ? [] : [[id, network.netnsPath]];
        }),
      )
    ),
  ]);
}
