import { isIP } from "node:net";
import { CriError, messageOf } from "../base/error.ts";
import { isObject, type JsonObject, objectsOf } from "./json.ts";
import { type CniVersion, isAtLeast, isKnownVersion, NEWEST_VERSION } from "./versions.ts";

/** What a plugin answered to ADD: as it came, and the version of the specification that it is written in. */
export interface CniResult {
  readonly cniVersion: CniVersion;
  readonly json: JsonObject;
}

/** How much of a plugin's words stands in a message. */
const MAX_QUOTED_CHARS = 200;

/**
 * Reads a plugin's answer. One without a version has that of the configuration, as in libcni.
 * @throws CriError FAILED_PRECONDITION when it is no result of a version that we speak.
 */
export function parseResult(text: string, configVersion: CniVersion, plugin: string): CniResult {
  const wrong = (why: string) =>
    new CriError(
      "FAILED_PRECONDITION",
      `Cannot use the answer of the plugin ${plugin} as it must be a CNI result: ${why}; it began with ` +
        `${JSON.stringify(text.slice(0, MAX_QUOTED_CHARS))}.`,
    );
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw wrong(messageOf(error));
  }
  if (!isObject(json)) throw wrong("it is no object");
  const cniVersion = json["cniVersion"] || configVersion;
  if (!isKnownVersion(cniVersion)) throw wrong(`its version is ${JSON.stringify(cniVersion)}`);
  const result = { cniVersion, json: { ...json, cniVersion } };
  const why = defectOf(upgraded(result));
  if (why !== undefined) throw wrong(why);
  return result;
}

/**
 * The result as a plugin of `version` reads it.
 * @throws CriError FAILED_PRECONDITION when the version has no way to say it: before 0.3.0 there must be an address.
 */
export function inVersion(result: CniResult, version: CniVersion): JsonObject {
  if (result.cniVersion === version) return result.json;
  return downgraded(upgraded(result), version);
}

/**
 * The addresses of one of the pod's interfaces, without prefix lengths, an IPv4 one first if there is any (as
 * containerd reports them), the others in the plugins' order. An address of no interface counts as `ifName`'s.
 */
export function interfaceAddresses(result: CniResult, ifName: string): string[] {
  const json = upgraded(result);
  const interfaces = objectsOf(json["interfaces"]) ?? [];
  const addresses = (objectsOf(json["ips"]) ?? []).filter(({ interface: index }) =>
    typeof index !== "number" || interfaces[index]?.["name"] === ifName
  ).map(hostOf);
  const first = Math.max(0, addresses.findIndex((address) => isIP(address) === 4));
  return [...addresses.slice(first, first + 1), ...addresses.toSpliced(first, 1)];
}

/** In the shape of 1.1.0, which says all that the older ones can. */
function upgraded({ cniVersion, json }: CniResult): JsonObject {
  if (isAtLeast(cniVersion, "1.0.0")) return { ...json, cniVersion: NEWEST_VERSION };
  if (isAtLeast(cniVersion, "0.3.0")) {
    const ips = objectsOf(json["ips"])?.map(({ version: _, ...rest }) => rest);
    return { ...json, cniVersion: NEWEST_VERSION, ips: ips ?? json["ips"] };
  }
  const { ip4, ip6, ...rest } = json;
  const families = [ip4, ip6].filter(isObject);
  return {
    ...rest,
    cniVersion: NEWEST_VERSION,
    ips: families.map(({ ip, gateway }) => ({
      address: ip,
      ...(gateway === undefined ? {} : { gateway }),
    })),
    routes: families.flatMap(({ routes }) => objectsOf(routes) ?? []),
  };
}

function downgraded(json: JsonObject, version: CniVersion): JsonObject {
  if (isAtLeast(version, "1.0.0")) return { ...json, cniVersion: version };
  const ips = objectsOf(json["ips"]) ?? [];
  const routes = objectsOf(json["routes"]) ?? [];
  if (isAtLeast(version, "0.3.0")) {
    return {
      ...json,
      cniVersion: version,
      interfaces: (objectsOf(json["interfaces"]) ?? []).map(({ name, mac, sandbox }) => ({
        name,
        ...(mac === undefined ? {} : { mac }),
        ...(sandbox === undefined ? {} : { sandbox }),
      })),
      ips: ips.map((ip) => ({ version: String(isIP(hostOf(ip))), ...ip })),
    };
  }
  const family = (wanted: 4 | 6) => {
    const first = ips.find((ip) => isIP(hostOf(ip)) === wanted);
    if (first === undefined) return undefined;
    const { address, gateway } = first;
    return {
      ip: address,
      ...(gateway === undefined ? {} : { gateway }),
      routes: routes.filter(({ dst }) => isIP(String(dst).split("/")[0] ?? "") === wanted)
        .map(({ dst, gw }) => ({ dst, ...(gw === undefined ? {} : { gw }) })),
    };
  };
  const [ip4, ip6] = [family(4), family(6)];
  if (ip4 === undefined && ip6 === undefined) {
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot tell a result without an address to a plugin of CNI ${version}, which must be given one.`,
    );
  }
  return {
    cniVersion: version,
    ...(ip4 === undefined ? {} : { ip4 }),
    ...(ip6 === undefined ? {} : { ip6 }),
    dns: json["dns"] ?? {},
  };
}

/** What makes a result of the newest shape unusable; undefined when nothing does. */
function defectOf(json: JsonObject): string | undefined {
  const interfaces = objectsOf(json["interfaces"]);
  const ips = objectsOf(json["ips"]);
  if (interfaces === undefined) return "its interfaces are no list of objects";
  if (ips === undefined) return "its addresses are no list of objects";
  if (objectsOf(json["routes"]) === undefined) return "its routes are no list of objects";
  for (const ip of ips) {
    if (isIP(hostOf(ip)) === 0) return `it has the address ${JSON.stringify(ip["address"])}`;
    const index = ip["interface"];
    const known = index === undefined || index === null ||
      (typeof index === "number" && interfaces[index] !== undefined);
    if (!known) return `it has an address of the interface number ${JSON.stringify(index)}`;
  }
  return undefined;
}

function hostOf(ip: JsonObject): string {
  return String(ip["address"] ?? "").split("/")[0] ?? "";
}
