import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { readBelow, resolveBelow } from "./root_files.ts";

Deno.test("readBelow() follows symbolic links as if the root were the root", async () => {
  const folder = await Deno.makeTempDir({ prefix: "root-files-" });
  const root = join(folder, "root");
  await Deno.mkdir(join(root, "etc"), { recursive: true });
  await Deno.mkdir(join(root, "usr"));
  await Deno.writeTextFile(join(folder, "secret"), "of the node");
  await Deno.writeTextFile(join(root, "usr/passwd"), "of the image");
  const links: Record<string, string> = {
    absolute: "/usr/passwd",
    relative: "../usr/passwd",
    out: "../../../../../../secret",
    node: "/secret",
    loop: "loop",
    folder: "/usr",
  };
  for (const [name, target] of Object.entries(links)) {
    await Deno.symlink(target, join(root, "etc", name));
  }
  const cases: [path: string, text: string][] = [
    ["/usr/passwd", "of the image"],
    ["/etc/absolute", "of the image"],
    ["/etc/relative", "of the image"],
    ["/etc/folder/passwd", "of the image"],
    ["/etc/folder", ""],
    ["/etc/out", ""],
    ["/etc/node", ""],
    ["/etc/loop", ""],
    ["/etc/none", ""],
    ["/../secret", ""],
  ];
  for (const [path, text] of cases) assertEquals(await readBelow(root, path), text, path);
  const leaves = async (path: string) => {
    let count = 0;
    await resolveBelow(root, path, () => count++);
    return count > 0;
  };
  for (const path of ["/etc", "..", "etc/../../etc", "etc/out"]) {
    assertEquals(await leaves(path), true, path);
  }
  for (
    const path of ["", "etc", "etc/../etc", "etc/relative", "etc/absolute", "etc/none", "etc/loop"]
  ) {
    assertEquals(await leaves(path), false, path);
  }
  await Deno.remove(folder, { recursive: true });
});
