import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { createLocalExecutor } from "../../executors/local.ts";
import { Node } from "./node.ts";

Deno.test("Node.devices() finds devices, where links lead, and what lies in folders, but for links there", async () => {
  const folder = await Deno.makeTempDir({ prefix: "devices-" });
  const node = new Node(createLocalExecutor());
  try {
    await Deno.mkdir(join(folder, "none"));
    await Deno.symlink("/dev/null", join(folder, "link"));
    await Deno.writeTextFile(join(folder, "file"), "");
    const paths = ["/dev/zero", `${folder}/link`, folder, "/no/such", `${folder}/file`];
    const found = (await node.devices(paths)).map(({ path, major, minor }) => [path, major, minor]);
    assertEquals(found, [["/dev/zero", 1, 5], [`${folder}/link`, 1, 3]]);
    const inDev = (await node.devices(["/dev/"])).map(({ path }) => path);
    assertEquals(inDev.includes("/dev/null"), true);
    const own = /^\/dev\/(pts|shm|fd|mqueue|console|stdin)\b/;
    assertEquals(inDev.filter((path) => own.test(path)), []);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
