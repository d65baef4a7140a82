import { CriError } from "../../../base/error.ts";
import { isAtLeast } from "../kernel.ts";
import { type Fields, fieldsOf, isGiven, listOf } from "./json_fields.ts";
import { type Machine, MACHINES } from "./seccomp.ts";

/** What the conditions in a profile ask for. */
export interface ProfilePlace {
  /** Names as `CAP_KILL`, of the container's bounding set. */
  capabilities: readonly string[];
  machine: Machine;
  /** As uname(1) -r tells it. */
  kernel: string;
}

/**
 * A profile of the node, as Docker and Kubernetes write them, in the form of the OCI's runtime-spec: of `archMap` what
 * is for this machine, and of the rules with `includes` and `excludes` those that are for this container.
 * @throws CriError INVALID_ARGUMENT when it is none, or has a condition that is not known.
 */
export function parseProfile(path: string, json: string, place: ProfilePlace): unknown {
  try {
    const profile = fieldsOf(JSON.parse(json));
    if (typeof profile.defaultAction !== "string") throw new TypeError("it has no defaultAction");
    return {
      ...pick(profile, ["defaultAction", "defaultErrnoRet", "flags"]),
      ...pick(profile, ["listenerPath", "listenerMetadata"]),
      ...architecturesOf(profile, place.machine),
      syscalls: listOf(profile.syscalls).map(fieldsOf)
        .filter((rule) => holds(rule, place))
        .map(syscallRule),
    };
  } catch (error) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot use the seccomp profile ${path}: it must be a JSON object with defaultAction and syscalls` +
        (error instanceof TypeError ? `, but ${error.message}.` : "."),
      { cause: error },
    );
  }
}

/** Where both are absent, only programs of the machine itself run (config-linux.md). */
function architecturesOf({ architectures, archMap }: Fields, machine: Machine): Fields {
  if (isGiven(architectures)) return { architectures: listOf(architectures) };
  const [own] = MACHINES[machine].architectures;
  const entry = listOf(archMap).map(fieldsOf).find(({ architecture }) => architecture === own);
  return entry === undefined ? {} : { architectures: [own, ...listOf(entry.subArchitectures)] };
}

/** Whether a rule is for this container: all is so that it includes, and nothing that it excludes. */
function holds({ includes, excludes }: Fields, place: ProfilePlace): boolean {
  return conditionsOf(includes, place).every((isMet) => isMet) &&
    !conditionsOf(excludes, place).some((isMet) => isMet);
}

/** What is so of the conditions, one by one. @throws TypeError for one that is not known. */
function conditionsOf(
  conditions: unknown,
  { capabilities, machine, kernel }: ProfilePlace,
): boolean[] {
  return Object.entries(fieldsOf(conditions ?? {})).flatMap(([name, value]) => {
    switch (name) {
      case "caps":
        return listOf(value).map((capability) => capabilities.includes(String(capability)));
      case "arches":
        return listOf(value).length === 0 ? [] : [listOf(value).includes(MACHINES[machine].go)];
      case "minKernel":
        return [isAtLeast(kernel, String(value))];
      default:
        throw new TypeError(`a rule has the condition ${JSON.stringify(name)}, which is not known`);
    }
  });
}

function syscallRule(rule: Fields): Fields {
  const { name, names, args } = rule;
  return {
    names: names === undefined ? [String(name)] : listOf(names),
    ...pick(rule, ["action", "errnoRet"]),
    ...(listOf(args).length > 0 ? { args } : {}),
  };
}

function pick(fields: Fields, names: readonly string[]): Fields {
  return Object.fromEntries(
    names.flatMap((name) => isGiven(fields[name]) ? [[name, fields[name]]] : []),
  );
}
