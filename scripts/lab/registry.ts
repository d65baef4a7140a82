import { addressOf, type LabSettings, REGISTRY_NAME } from "./settings.ts";
import type { HostShell } from "./shell.ts";

/** Where the registry listens, over one storage. */
export const REGISTRY_PORTS = {
  /** For names without a port. */
  plain: 80,
  /** For names with one. */
  numbered: 5000,
  /** The same images, for {@link REGISTRY_CREDENTIALS} only. */
  guarded: 5001,
} as const;

/** What the guarded port asks for (HTTP basic authentication). */
export const REGISTRY_CREDENTIALS = { username: "puller", password: "pull $ecret" } as const;

/** The same as an htpasswd line; the registry takes bcrypt only. */
const HTPASSWD = "puller:$2b$05$labRegistrySaltLabRegOVZ08DwVkZygm.fcxPxxNWzFfRmomocK\n";
const HTPASSWD_PATH = "/etc/docker/registry/htpasswd";

/** The registry's configuration for one port. */
export function registryConfig(port: number): string {
  const auth = `auth: {htpasswd: {realm: lab, path: ${HTPASSWD_PATH}}}`;
  return [
    "version: 0.1",
    "log: {level: warn}",
    "storage: {filesystem: {rootdirectory: /var/lib/registry}, delete: {enabled: true}}",
    `http: {addr: ":${port}"}`,
    ...(port === REGISTRY_PORTS.guarded ? [auth] : []),
    "",
  ].join("\n");
}

/** The registries of the real world whose images every host takes from the lab's own. */
export const MIRRORED_REGISTRIES = [
  "docker.io",
  "registry.k8s.io",
  "k8s.gcr.io",
  "gcr.io",
] as const;

/**
 * containers-registries.conf(5) of every host: the registry speaks plain http, and images of
 * {@link MIRRORED_REGISTRIES} come from it too. Each location is its own mirror as well, because Apptainer 1.4 heeds
 * `insecure` for the first mirror only.
 */
export function registriesConf(settings: LabSettings): string {
  const address = addressOf(settings, "registry");
  const numbered = `${address}:${REGISTRY_PORTS.numbered}`;
  const mirrored = (prefix: string, mirror: string, insecure: boolean) =>
    [
      "[[registry]]",
      `location = "${prefix}"`,
      `insecure = ${insecure}`,
      "[[registry.mirror]]",
      `location = "${mirror}"`,
      "insecure = true",
      "",
    ].join("\n");
  return [
    mirrored(REGISTRY_NAME, REGISTRY_NAME, true),
    mirrored(numbered, numbered, true),
    mirrored(`${address}:${REGISTRY_PORTS.guarded}`, `${address}:${REGISTRY_PORTS.guarded}`, true),
    ...MIRRORED_REGISTRIES.map((name) => mirrored(name, numbered, false)),
  ].join("\n");
}

/** Starts the registry on all its ports. */
export async function startRegistry(registry: HostShell, address: string): Promise<void> {
  await registry.write(HTPASSWD_PATH, HTPASSWD);
  const ports = Object.values(REGISTRY_PORTS);
  for (const port of ports) {
    const config = `/etc/docker/registry/port-${port}.yml`;
    await registry.write(config, registryConfig(port));
    await registry.daemon(`registry-${port}`, ["docker-registry", "serve", config]);
  }
  await Promise.all(
    ports.map((port) => registry.waitForPort(`registry-${port}`, address, port)),
  );
}
