import type { PodSandboxConfig } from "../cri/api.generated.ts";

/** The network of one pod, as it stands. */
export interface PodNetwork {
  /** The pod's network namespace, as a path that setns(2) and OCI runtimes take (`/run/netns/…`). */
  readonly netnsPath: string;
  /** The addresses of the pod's `eth0`, at least one, without prefix length; the one to report first comes first. */
  readonly addresses: readonly string[];
  /** What the plugins answered, for `crictl inspectp`: a CNI result (SPEC.md, section 5). */
  readonly result: unknown;
}

/** Whether pods can be given a network now. */
export interface NetworkReadiness {
  readonly ready: boolean;
  /** Why not, a sentence; empty when ready. */
  readonly message: string;
}

/** The configuration of a sandbox that shall have a network, as it is at the moment; undefined for all others. */
export type WantedSandboxes = (sandboxId: string) => PodSandboxConfig | undefined;

/**
 * The networks of the pods of this node. Everything that is made for a pod is written down before it is made, under the
 * sandbox's id, so that nothing is left for ever whenever the process dies.
 */
export interface PodNetworks {
  /**
   * Makes a network namespace for a sandbox, with `lo` up, and adds it to the node's network. To be called before the
   * sandbox's record exists, and never for pods that share the node's network. A failure leaves nothing behind; what
   * cannot be taken back at once is tried again until it is gone.
   * @throws CriError FAILED_PRECONDITION without a usable configuration or plugin; INVALID_ARGUMENT for what the pod
   * asks for in vain; UNAVAILABLE, UNIMPLEMENTED with the plugin's own code and message; DEADLINE_EXCEEDED when a
   * plugin hung; CANCELLED when `signal` aborted.
   */
  attach(sandboxId: string, config: PodSandboxConfig, signal: AbortSignal): Promise<PodNetwork>;

  /** The network of a sandbox; undefined when it has none (any more). Costs nothing. */
  of(sandboxId: string): PodNetwork | undefined;

  /**
   * Takes a sandbox off the network and removes its namespace. Idempotent: nothing happens when there is none.
   * @throws CriError when a plugin fails; the call is to be repeated then, and `of` still knows the network.
   */
  detach(sandboxId: string): Promise<void>;

  /** As `detach`, for a sandbox that nobody will stop: what fails of it is logged, and tried again until it is done. */
  giveUp(sandboxId: string): Promise<void>;

  /** Whether a pod can be attached now: a configuration, its plugins, and what they say of themselves (STATUS). */
  readiness(): Promise<NetworkReadiness>;

  /** Keeps the node's pod addresses (UpdateRuntimeConfig: CIDRs separated by commas) for plugins that want ipRanges. */
  usePodCidr(podCidr: string): void;

  /**
   * To be called once, before any other verb: removes the networks of sandboxes that are not `wanted`, and makes those
   * anew that a reboot took away (their addresses may differ then). Resolves within a bounded time; what could not be
   * done is logged, and tried again later.
   */
  recover(wanted: WantedSandboxes): Promise<void>;

  /** Ends what runs in the background. */
  close(): Promise<void>;
}
