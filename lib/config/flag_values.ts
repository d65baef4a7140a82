import { parseArgs } from "@std/cli/parse-args";
import { FLAGS, suggestion } from "./flag_table.ts";
import { badValue, onOneLine, UsageError } from "./usage_error.ts";

/**
 * Returns a look-up of each flag's raw value, its default where it was not given.
 * @throws UsageError for an unknown flag, a flag without its value, or a stray argument.
 */
export function readFlags(args: readonly string[]): (name: string) => string {
  const known = new Map(FLAGS.map((flag) => [flag.name, flag]));
  const booleans = FLAGS.filter((flag) => flag.value === undefined).map((flag) => flag.name);
  // Each flag with its value in one word, so that the value may be empty or begin with a dash.
  const words: string[] = [];
  for (let index = 0; index < args.length; index++) {
    const arg = args[index] ?? "";
    const name = /^--?([^=]+)/s.exec(arg)?.[1] ?? "";
    if (booleans.includes(name) && arg.includes("=")) {
      const value = arg.slice(arg.indexOf("=") + 1);
      if (value !== "true" && value !== "false") {
        throw badValue(`--${name}`, value, "true or false");
      }
    }
    const placeholder = arg.includes("=") ? undefined : known.get(name)?.value;
    if (placeholder === undefined) {
      words.push(arg);
      continue;
    }
    const value = args[++index];
    if (value === undefined || /^--\w/.test(value)) {
      throw new UsageError(`--${name} needs a value (${placeholder}).`);
    }
    words.push(`--${name}=${value}`);
  }
  const parsed: Record<string, unknown> = parseArgs(words, {
    string: FLAGS.filter((flag) => flag.value !== undefined).map((flag) => flag.name),
    boolean: booleans,
    alias: Object.fromEntries(
      FLAGS.filter((flag) => flag.alias).map((flag) => [flag.alias ?? "", flag.name]),
    ),
    unknown: (arg: string, key?: string) => {
      if (key === undefined) {
        throw strayArgument(arg);
      }
      throw new UsageError(
        `Unknown flag '${onOneLine(arg)}'${suggestion(key)}; --help lists the flags.`,
      );
    },
  });
  const [stray] = parsed["_"] as unknown[];
  if (stray !== undefined) throw strayArgument(String(stray));
  return (name) => {
    const value = parsed[name];
    const given = words.some((arg) => new RegExp(`^--?(no-)?${name}(=|$)`, "s").test(arg));
    if (given || value === true) return String(Array.isArray(value) ? value.at(-1) : value);
    return known.get(name)?.default ?? "";
  };
}

function strayArgument(arg: string): UsageError {
  return new UsageError(
    `Cannot use the argument '${onOneLine(arg)}': multicri takes flags only, see --help.`,
  );
}
