import { hostname, networkInterfaces } from "node:os";
import { join } from "@std/path";
import type { Adapter } from "./lib/adapters/adapter.ts";
import { SingularityAdapter } from "./lib/adapters/singularity/adapter.ts";
import { SlurmAdapter } from "./lib/adapters/slurm/adapter.ts";
import { PodTraffic } from "./lib/adapters/steps/pod_traffic.ts";
import { systemClock } from "./lib/base/clock.ts";
import { assertSupportedDeno } from "./lib/base/deno_version.ts";
import { CriError, messageOf } from "./lib/base/error.ts";
import { KeyedMutex } from "./lib/base/keyed_mutex.ts";
import { createLogger, type Logger, writeStderrLine, writeStdoutLine } from "./lib/base/log.ts";
import type { JobsCommand } from "./lib/config/jobs_command.ts";
import { RunningServer } from "./lib/admin/running_server.ts";
import { checkRegistryCredentials } from "./lib/config/registry_credentials.ts";
import { knownLogins } from "./lib/admin/clusters.ts";
import { readClusters } from "./lib/config/clusters.ts";
import { type ImagesPlace, runImagesCommand } from "./lib/admin/images.ts";
import { type JobsPlace, runJobsCommand } from "./lib/admin/jobs.ts";
import { runSiteCommand, siteJob } from "./lib/admin/site.ts";
import { type Config, parseInvocation } from "./lib/config/flags.ts";
import { describeUsage, UsageError } from "./lib/config/usage_error.ts";
import { SYSTEMD_SIGN } from "./lib/config/permissions.ts";
import { backendFromHandlers } from "./lib/cri/service.ts";
import type { ImagesCommand } from "./lib/config/images_command.ts";
import type { SiteCommand } from "./lib/config/site_command.ts";
import { createLocalExecutor } from "./lib/executors/local.ts";
import { localProcesses } from "./lib/executors/local_process.ts";
import { HostKeys } from "./lib/executors/ssh/host_keys.ts";
import { OpenSsh } from "./lib/executors/ssh/openssh.ts";
import { ClusterSessions } from "./lib/executors/ssh/sessions.ts";
import { ImageService } from "./lib/images/image_service.ts";
import { Puller } from "./lib/images/puller.ts";
import { Namespaces } from "./lib/network/namespaces.ts";
import { CniNetworks } from "./lib/network/cni_networks.ts";
import { openRouter } from "./lib/router/open.ts";
import { ownRecords } from "./lib/router/owners.ts";
import { withFullDisksNamed } from "./lib/runtime/full_disk.ts";
import { notBuiltYet, runtimeHandlers } from "./lib/runtime/handlers.ts";
import { networkPath, recoverSandboxNetworks } from "./lib/runtime/sandbox_network.ts";
import { MULTICRI_VERSION } from "./lib/runtime/status.ts";
import { serveCri } from "./lib/server/server.ts";
import { StreamingServer } from "./lib/streaming/server.ts";
import { Store } from "./lib/store/store.ts";

/** sysexits-like codes that a unit file can tell apart. */
const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;

async function serve(config: Config, log: Logger): Promise<void> {
  const clock = systemClock;
  for (const directory of [config.rootDir, config.stateDir, config.resourcesCachePath]) {
    await makeDirectory(directory);
  }
  if (config.adapterName === "slurm" && config.allowedClusters.length === 0) {
    log.warning("Pods may name any host as their cluster; --allowed-clusters limits that");
  }
  using store = Store.open({
    podsDir: config.enablePodPersistence ? config.rootDir : config.stateDir,
    rootDir: config.rootDir,
    imagesDir: config.resourcesCachePath,
  });
  const executor = createLocalExecutor();
  checkRegistryCredentials(config.registryCredentials);
  const puller = new Puller(
    executor,
    { apptainer: "apptainer", skopeo: "skopeo" },
    config.registryCredentials,
  );
  const images = new ImageService(
    config.resourcesCachePath,
    store,
    puller,
    clock,
    log,
    config.slurm.buildInCluster,
  );
  const hostKeys = new HostKeys(join(config.rootDir, "known_hosts"), log);
  const openSsh = await OpenSsh.find({
    executor,
    secretsDirectory: join(config.stateDir, "ssh-secrets"),
    askpassPath: join(config.rootDir, "ssh-askpass"),
    knownHostsPath: hostKeys.path,
  }, log);
  const sessions = new ClusterSessions({ hostKeys, logger: log, clock, openSsh });
  const networks = config.enablePodNetwork
    ? new CniNetworks({
      confDir: config.networkConfDir,
      binDir: config.networkBinDir,
      stateDir: config.stateDir,
      store,
      executor,
      namespaces: new Namespaces(executor),
      clock,
    }, log)
    : undefined;
  const systemdNode = await exists(SYSTEMD_SIGN);
  const adapter: Adapter = config.adapterName === "slurm"
    ? new SlurmAdapter(config, readClusters(config), store, sessions, clock, log)
    : await SingularityAdapter.open({
      config,
      store,
      executor,
      processes: localProcesses,
      clock,
      log,
      systemdCgroups: systemdNode,
      nodeName: hostname(),
      networkOf: (sandboxId, pod) => networkPath(networks, store, sandboxId, pod),
    });
  const streams = await StreamingServer.listen({
    address: config.streamAddr,
    port: config.streamPort,
    log,
    clock,
  });
  const handlers = runtimeHandlers({
    config,
    store,
    adapter,
    images,
    streams,
    networks,
    traffic: networks && new PodTraffic(executor, clock, log),
    clock,
    nodeAddress: config.nodeIp ?? firstAddress(),
    systemdNode,
    locks: new KeyedMutex(),
  });
  const own = withFullDisksNamed(backendFromHandlers(handlers, notBuiltYet(adapter.name)), config);

  // Recovery comes before the socket: a client must not see a list that misses what still runs.
  await images.recover();
  // What the adapter takes out of service needs no network any more.
  await adapter.recover();
  await recoverSandboxNetworks(networks, store, log);
  const router = await openRouter(config, own, ownRecords(store), clock, log);
  try {
    const { backend } = router;
    const server = await serveCri({ socketPath: config.socketPath, backend, log, clock });
    await untilSignal(["SIGINT", "SIGTERM"]);
    await server.close();
  } finally {
    await router.close();
    await streams.close();
    await networks?.close();
    await adapter.close();
  }
}

/** Runs an administrator's command about images; returns the exit code. */
function administerImages(config: Config, command: ImagesCommand): Promise<number> {
  return administer(config, (place) => runImagesCommand(place, command));
}

/** Runs an administrator's command about jobs; returns the exit code. */
function administerJobs(config: Config, command: JobsCommand): Promise<number> {
  return administer(config, (place) => runJobsCommand(place, command));
}

/** Runs an administrator's command about what clusters offer; returns the exit code. */
function administerSite(config: Config, command: SiteCommand): Promise<number> {
  const job = siteJob((name) => Deno.env.get(name));
  return atClusters(config, (place) => runSiteCommand({ ...place, job }, command));
}

/** Runs a command about what clusters and a server that may run hold; returns the exit code. */
function administer(
  config: Config,
  run: (place: JobsPlace & ImagesPlace) => Promise<boolean>,
): Promise<number> {
  return atClusters(config, async (place, log) => {
    const server = new RunningServer(config.socketPath, systemClock, log);
    try {
      await server.connect();
      return await run({ ...place, server });
    } finally {
      await server.close();
    }
  });
}

/** Runs a command that needs the clusters, and says by the exit code whether it succeeded. */
async function atClusters(
  config: Config,
  run: (place: Omit<JobsPlace, "server">, log: Logger) => Promise<boolean>,
): Promise<number> {
  const log = createLogger({ threshold: "error", write: writeStderrLine });
  await makeDirectory(config.rootDir);
  const hostKeys = new HostKeys(join(config.rootDir, "known_hosts"), log);
  const sessions = new ClusterSessions({ hostKeys, logger: log, clock: systemClock });
  const logins = knownLogins(readClusters(config), (name) => Deno.env.get(name));
  const place = { logins, sessions, slurm: config.slurm, print: writeStdoutLine };
  try {
    return await run(place, log) ? 0 : EXIT_FAILURE;
  } finally {
    await sessions.closeAll();
  }
}

async function makeDirectory(path: string): Promise<void> {
  await Deno.mkdir(path, { recursive: true, mode: 0o700 }).catch((error) => {
    throw new CriError("FAILED_PRECONDITION", `Cannot make ${path}: ${messageOf(error)}.`);
  });
}

/** The first address of this node that others can reach; loopback when it has none. */
function firstAddress(): string {
  const addresses = Object.values(networkInterfaces()).flatMap((entries) => entries ?? [])
    .filter(({ internal, address }) => !internal && !address.startsWith("fe80:"));
  const best = addresses.find(({ family }) => family === "IPv4") ?? addresses[0];
  return best?.address ?? "127.0.0.1";
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

/** Resolves at the first of the signals; later ones do not cut the draining short. */
function untilSignal(signals: readonly Deno.Signal[]): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of signals) Deno.addSignalListener(signal, () => resolve());
  });
}

async function main(args: readonly string[]): Promise<number> {
  try {
    const invocation = parseInvocation(args, (name) => Deno.env.get(name));
    switch (invocation.kind) {
      case "help":
        writeStdoutLine(invocation.text);
        return 0;
      case "version":
        writeStdoutLine(`multicri ${MULTICRI_VERSION} (Deno ${Deno.version.deno})`);
        return 0;
      case "serve": {
        assertSupportedDeno(Deno.version.deno);
        const log = createLogger({
          threshold: invocation.config.logThreshold,
          write: writeStderrLine,
        });
        await serve(invocation.config, log);
        return 0;
      }
      case "images":
        return await administerImages(invocation.config, invocation.command);
      case "jobs":
        return await administerJobs(invocation.config, invocation.command);
      case "site":
        return await administerSite(invocation.config, invocation.command);
      default:
        return invocation satisfies never;
    }
  } catch (error) {
    if (error instanceof UsageError) {
      writeStderrLine(describeUsage(error));
      return EXIT_USAGE;
    }
    writeStderrLine(`multicri: ${messageOf(error)}`);
    if (!(error instanceof CriError) && error instanceof Error) writeStderrLine(error.stack ?? "");
    return EXIT_FAILURE;
  }
}

Deno.exit(await main(Deno.args));
