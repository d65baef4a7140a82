import { addressOf, type LabSettings, REGISTRY_NAME } from "./settings.ts";
import type { HostShell } from "./shell.ts";

/** Where the registry listens: 80 serves names without a port, 5000 those with one. */
export const REGISTRY_PORTS = [80, 5000] as const;

/** The registry's configuration for one port; all ports share the storage. */
export function registryConfig(port: number): string {
  return [
    "version: 0.1",
    "log: {level: warn}",
    "storage: {filesystem: {rootdirectory: /var/lib/registry}, delete: {enabled: true}}",
    `http: {addr: ":${port}"}`,
    "",
  ].join("\n");
}

/**
 * containers-registries.conf(5) of every host: the registry speaks plain http, and images of docker.io
 * come from it too.
 */
export function registriesConf(settings: LabSettings): string {
  const address = `${addressOf(settings, "registry")}:5000`;
  const insecure = [address, REGISTRY_NAME].map((location) =>
    `[[registry]]\nlocation = "${location}"\ninsecure = true\n`
  );
  return `${insecure.join("\n")}
[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "${address}"
insecure = true
`;
}

/** Starts the registry. */
export async function startRegistry(registry: HostShell, address: string): Promise<void> {
  for (const port of REGISTRY_PORTS) {
    const config = `/etc/docker/registry/port-${port}.yml`;
    await registry.write(config, registryConfig(port));
    await registry.daemon(`registry-${port}`, ["docker-registry", "serve", config]);
  }
  for (const port of REGISTRY_PORTS) {
    await registry.waitForPort(`registry-${port}`, address, port);
  }
}
