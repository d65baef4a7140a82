import { CriError, messageOf } from "../base/error.ts";
import { isObject, type JsonObject } from "./json.ts";
import {
  CNI_VERSIONS,
  type CniVersion,
  isAtLeast,
  isKnownVersion,
  UNNAMED_VERSION,
} from "./versions.ts";

/** What one plugin of a network is configured with; unknown fields are the plugin's and pass unchanged. */
export type PluginConfig = JsonObject & { readonly type: string };

/** A network configuration (CNI SPEC.md, section 1), in the newest version that both it and we speak. */
export interface NetworkConfig {
  readonly name: string;
  readonly cniVersion: CniVersion;
  readonly disableCheck: boolean;
  readonly disableGC: boolean;
  /** Whether plugins in files of the directory with the network's name are left out. */
  readonly loadOnlyInlinedPlugins: boolean;
  /** In the order of ADD. */
  readonly plugins: readonly PluginConfig[];
}

/** Names of networks and containers (libcni, pkg/utils). */
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

/**
 * Reads a list of plugins (`*.conflist`). The list may be empty when plugins can come from files of their own.
 * @throws CriError FAILED_PRECONDITION, one sentence that names `path`.
 */
export function parseConfigList(path: string, text: string): NetworkConfig {
  const json = parseObject(path, text);
  const { plugins } = json;
  const loadOnlyInlinedPlugins = flag(path, json, "loadOnlyInlinedPlugins");
  if (plugins === undefined) {
    if (loadOnlyInlinedPlugins) {
      throw unusable(path, "loadOnlyInlinedPlugins is true and there are no plugins in it");
    }
  } else if (!Array.isArray(plugins) || plugins.length === 0) {
    throw unusable(path, "its plugins must be a list with at least one");
  }
  return {
    name: networkName(path, json),
    cniVersion: version(path, json),
    disableCheck: flag(path, json, "disableCheck"),
    disableGC: flag(path, json, "disableGC"),
    loadOnlyInlinedPlugins,
    plugins: (plugins as unknown[] | undefined ?? []).map((plugin, index) =>
      pluginConfig(path, plugin, `its plugin number ${index + 1}`)
    ),
  };
}

/**
 * Reads the older form, one plugin that is the network (`*.conf`, `*.json`).
 * @throws CriError FAILED_PRECONDITION, one sentence that names `path`.
 */
export function parseSingleConfig(path: string, text: string): NetworkConfig {
  const json = parseObject(path, text);
  if (json["type"] === undefined && json["plugins"] !== undefined) {
    throw unusable(path, "it holds a list of plugins, and so its name must end in .conflist");
  }
  return {
    name: networkName(path, json),
    cniVersion: version(path, json),
    disableCheck: false,
    disableGC: false,
    loadOnlyInlinedPlugins: true,
    plugins: [pluginConfig(path, json, "it")],
  };
}

/** Reads a plugin in a file of its own. @throws CriError FAILED_PRECONDITION, one sentence that names `path`. */
export function parsePluginConfig(path: string, text: string): PluginConfig {
  return pluginConfig(path, parseObject(path, text), "it");
}

/** The error for a configuration that cannot be used. */
export function unusable(path: string, why: string): CriError {
  return new CriError(
    "FAILED_PRECONDITION",
    `Cannot use the network configuration ${path}: ${why}.`,
  );
}

function parseObject(path: string, text: string): JsonObject {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw unusable(path, `it is no JSON: ${messageOf(error)}`);
  }
  if (!isObject(json)) throw unusable(path, "it must be a JSON object");
  return json;
}

function networkName(path: string, { name }: JsonObject): string {
  if (typeof name === "string" && NAME.test(name)) return name;
  throw unusable(
    path,
    `its name must be letters, digits, '_', '.' and '-', and is ${
      JSON.stringify(name) ?? "missing"
    }`,
  );
}

function pluginConfig(path: string, json: unknown, what: string): PluginConfig {
  if (!isObject(json)) throw unusable(path, `${what} must be an object`);
  const { type } = json;
  // It becomes a file's name below the directory of plugins.
  if (typeof type !== "string" || !/^[^/\\\0]+$/.test(type) || type === "." || type === "..") {
    throw unusable(
      path,
      `${what} must name a plugin as its type, which is ${JSON.stringify(type) ?? "missing"}`,
    );
  }
  return { ...json, type };
}

/** libcni reads the words too. */
function flag(path: string, json: JsonObject, key: string): boolean {
  const value = json[key];
  const word = typeof value === "string" ? value.toLowerCase() : value;
  if (word === undefined || word === false || word === "false") return false;
  if (word === true || word === "true") return true;
  throw unusable(path, `${key} must be true or false, and is ${JSON.stringify(value)}`);
}

/** The newest of `cniVersions` and `cniVersion` that we speak, as the specification asks for. */
function version(path: string, { cniVersion, cniVersions }: JsonObject): CniVersion {
  if (cniVersion === undefined && cniVersions === undefined) return UNNAMED_VERSION;
  const list = cniVersions ?? [];
  const wellFormed = (entry: unknown) => typeof entry === "string" && /^\d+\.\d+\.\d+$/.test(entry);
  if (!Array.isArray(list) || !list.every(wellFormed)) {
    throw unusable(path, `cniVersions must be a list of versions, and is ${JSON.stringify(list)}`);
  }
  const named = cniVersion === undefined || cniVersion === "" ? [] : [cniVersion];
  const known = [...list, ...named].filter(isKnownVersion);
  if (known.length > 0) return known.reduce((a, b) => isAtLeast(a, b) ? a : b);
  if (named.length === 0 && list.length === 0) return UNNAMED_VERSION;
  throw unusable(
    path,
    `its version must be one of ${CNI_VERSIONS.join(", ")}, and is ${
      JSON.stringify(cniVersion ?? list)
    }`,
  );
}
