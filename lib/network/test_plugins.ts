/** Network plugins that are shell scripts, for the tests of this directory. */
import { join } from "@std/path";
import { createLocalExecutor } from "../executors/local.ts";
import { Chain } from "./chain.ts";
import type { JsonObject } from "./json.ts";
import { parseConfigList } from "./network_config.ts";
import { Plugins } from "./plugin.ts";

/** One run of a plugin: what it was told. */
export interface Told {
  plugin: string;
  command: string;
  containerId: string;
  netns: string;
  ifName: string;
  args: string;
  path: string;
  request: JsonObject;
}

export class TestPlugins implements AsyncDisposable {
  readonly plugins: Plugins;

  private constructor(readonly directory: string) {
    this.plugins = new Plugins(createLocalExecutor(), directory);
  }

  static async create(): Promise<TestPlugins> {
    return new TestPlugins(await Deno.makeTempDir({ prefix: "cni-" }));
  }

  get lockPath(): string {
    return join(this.directory, "lock");
  }

  /** Adds a plugin that writes down what it is told and then does what `script` says; it has read its stdin then. */
  async add(name: string, script: string): Promise<void> {
    const calls = join(this.directory, "calls");
    const text = `#!/bin/sh
request=$(cat)
fields=$(printf '"%s",' "$CNI_COMMAND" "$CNI_CONTAINERID" "$CNI_NETNS" "$CNI_IFNAME" "$CNI_ARGS" "$CNI_PATH")
printf '["%s",%s%s]\\n' ${name} "$fields" "$request" >> '${calls}'
${script}
`;
    await Deno.writeTextFile(join(this.directory, name), text, { mode: 0o755 });
  }

  /** What all plugins were told, in order. */
  async told(): Promise<Told[]> {
    const text = await Deno.readTextFile(join(this.directory, "calls")).catch(() => "");
    return text.split("\n").filter(Boolean).map((line) => {
      const [plugin, command, containerId, netns, ifName, args, path, request] = JSON.parse(line);
      return { plugin, command, containerId, netns, ifName, args, path, request };
    });
  }

  /** A network of these plugins, each with fields of its own. */
  chain(plugins: readonly JsonObject[], fields: JsonObject = {}): Chain {
    const text = JSON.stringify({ cniVersion: "1.1.0", name: "pods", ...fields, plugins });
    return new Chain(this.plugins, parseConfigList("10-test.conflist", text));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.directory, { recursive: true });
  }
}
