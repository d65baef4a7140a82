import { assertEquals, assertStringIncludes } from "@std/assert";
import { labSettings } from "./settings.ts";
import { registriesConf, REGISTRY_PORTS, registryConfig } from "./registry.ts";
import { slurmConf } from "./slurm.ts";

const settings = labSettings({ subnet: "10.9.8", cache: "/c" }, () => undefined);

Deno.test("slurmConf() addresses the lab's own subnet and holds one partition back", () => {
  const conf = slurmConf(settings);
  assertStringIncludes(conf, "\nSlurmctldHost=ctl(10.9.8.10)\n");
  assertStringIncludes(conf, "\nNodeName=n2 NodeAddr=10.9.8.12 ");
  const partitions = conf.split("\n").filter((line) => line.startsWith("PartitionName="));
  assertEquals(
    partitions.map((line) => /^PartitionName=(\S+) .* State=(\S+)$/.exec(line)?.slice(1)),
    [
      ["main", "UP"],
      ["held", "DOWN"],
      ["scavenger", "UP"],
      ["urgent", "UP"],
    ],
  );
});

Deno.test("registryConfig() asks for a password on the guarded port only", () => {
  for (const port of Object.values(REGISTRY_PORTS)) {
    const guarded = registryConfig(port).includes("htpasswd");
    assertEquals(guarded, port === REGISTRY_PORTS.guarded, String(port));
  }
});

Deno.test("registriesConf() sends docker.io to the lab's registry", () => {
  assertStringIncludes(
    registriesConf(settings),
    `location = "docker.io"\ninsecure = false\n[[registry.mirror]]\nlocation = "10.9.8.1:5000"\n`,
  );
});
