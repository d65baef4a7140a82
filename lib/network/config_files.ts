import { join } from "@std/path";
import { CriError, messageOf } from "../base/error.ts";
import {
  type NetworkConfig,
  parseConfigList,
  parsePluginConfig,
  parseSingleConfig,
  unusable,
} from "./network_config.ts";

/** A configuration is some kilobytes; what is larger is something else. */
const MAX_CONFIG_BYTES = 1024 * 1024;

/** The words that users of Kubernetes know, from containerd. */
const NOT_INITIALIZED = "cni plugin not initialized";

/**
 * Reads the configuration of the node's network: the first file of a directory that is one, by its name, as containerd
 * does it. It is read each time that it is needed, which takes less than a millisecond, so that no change is missed.
 * @throws CriError FAILED_PRECONDITION, a sentence, when there is none or the first one cannot be used.
 */
export async function readNetworkConfig(directory: string): Promise<NetworkConfig> {
  const [path] = await filesOf(directory, [".conf", ".conflist", ".json"]);
  if (path === undefined) {
    throw new CriError(
      "FAILED_PRECONDITION",
      `${NOT_INITIALIZED}: there is no network configuration (*.conflist, *.conf or *.json) in ${directory}.`,
    );
  }
  const text = await readConfig(path);
  if (!path.endsWith(".conflist")) return parseSingleConfig(path, text);
  const config = parseConfigList(path, text);
  if (config.loadOnlyInlinedPlugins) return config;
  const plugins = [...config.plugins];
  for (const file of await filesOf(join(directory, config.name), [".conf"])) {
    plugins.push(parsePluginConfig(file, await readConfig(file)));
  }
  if (plugins.length > 0) return { ...config, plugins };
  throw unusable(path, `it has no plugins, and there are none in ${join(directory, config.name)}`);
}

async function readConfig(path: string): Promise<string> {
  try {
    const { size } = await Deno.stat(path);
    if (size <= MAX_CONFIG_BYTES) return await Deno.readTextFile(path);
  } catch (error) {
    throw unusable(path, messageOf(error));
  }
  throw unusable(path, `it must not be larger than ${MAX_CONFIG_BYTES} bytes`);
}

/** The paths of a directory's files whose names end so, by name; none when there is no such directory. */
async function filesOf(directory: string, endings: readonly string[]): Promise<string[]> {
  const paths: string[] = [];
  try {
    for await (const { name, isDirectory } of Deno.readDir(directory)) {
      const ending = /\.[^.]*$/.exec(name)?.[0] ?? "";
      if (!isDirectory && endings.includes(ending)) paths.push(join(directory, name));
    }
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot read the network configurations in ${directory}: ${messageOf(error)}.`,
      { cause: error },
    );
  }
  return paths.sort();
}
