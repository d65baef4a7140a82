import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { createLocalExecutor } from "../../executors/local.ts";
import { changeWhole } from "./limits.ts";
import { Node } from "./node.ts";

const BEFORE: Record<string, string> = {
  "cpu/cpu.shares": "1024\n",
  "cpu/cpu.cfs_quota_us": "-1\n",
  "memory/memory.limit_in_bytes": "9223372036854771712\n",
  "cpuset/cpuset.cpus": "\n",
  "hugetlb/hugetlb.2MB.limit_in_bytes": "7\n",
  "memory/memory.high": "max\n",
  "memory/memory.usage": "5\n",
};

Deno.test("changeWhole() restores every limit when the change fails, and none when it does not", async () => {
  const folder = await Deno.makeTempDir({ prefix: "limits-" });
  const node = new Node(createLocalExecutor());
  try {
    const controllers = ["cpu", "cpuset", "hugetlb", "memory"];
    for (const name of controllers) await Deno.mkdir(join(folder, name));
    const list = join(folder, "cgroups");
    const lines = [...controllers, "gone"].map((name) => `${name} ${join(folder, name)}\n`);
    await Deno.writeTextFile(list, lines.join(""));
    const write = async (texts: Record<string, string>) => {
      for (const [name, text] of Object.entries(texts)) {
        await Deno.writeTextFile(join(folder, name), text);
      }
    };
    const after = Object.fromEntries(Object.keys(BEFORE).map((name) => [name, "3\n"]));
    const read = async () =>
      Object.fromEntries(
        await Promise.all(
          Object.keys(BEFORE).map(async (name) => [
            name,
            await Deno.readTextFile(join(folder, name)),
          ]),
        ),
      );
    await write(BEFORE);
    const failing = async () => {
      await write(after);
      throw new Error("the kernel refuses it");
    };
    const changed = changeWhole(node, list, ["memory.high"], failing);
    await assertRejects(() => changed, Error, "the kernel refuses it");
    // What is no limit is none of its business.
    assertEquals(await read(), { ...BEFORE, "memory/memory.usage": "3\n" });
    await changeWhole(node, list, [], () => write(after));
    assertEquals(await read(), after);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
