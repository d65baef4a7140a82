/**
 * Prints, for the launcher, Deno's permission flags for a command line, one a line, each quoted for a POSIX
 * shell. Ends with 2 and a sentence when the command line cannot be used.
 */
import { writeStderrLine, writeStdoutLine } from "../base/log.ts";
import { quoteShell } from "../../wasm/core.ts";
import { type Invocation, parseInvocation } from "./flags.ts";
import { describeUsage, UsageError } from "./usage_error.ts";
import { readClusters } from "./clusters.ts";
import {
  commandPermissionFlags,
  HELP_PERMISSION_FLAGS,
  permissionFlags,
  sitePermissionFlags,
} from "./permissions.ts";

try {
  const invocation = parseInvocation(Deno.args, (name) => Deno.env.get(name));
  for (const flag of flagsOf(invocation)) writeStdoutLine(quoteShell(flag));
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  writeStderrLine(describeUsage(error));
  Deno.exit(2);
}

function flagsOf(invocation: Invocation): readonly string[] {
  switch (invocation.kind) {
    case "help":
    case "version":
      return HELP_PERMISSION_FLAGS;
    case "serve":
      return permissionFlags(invocation.config, readClusters(invocation.config));
    case "images":
    case "jobs":
      return commandPermissionFlags(invocation.config, readClusters(invocation.config));
    case "site":
      return sitePermissionFlags(invocation.config, readClusters(invocation.config));
    default:
      return invocation satisfies never;
  }
}
