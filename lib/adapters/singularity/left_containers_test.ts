import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { createLogger } from "../../base/log.ts";
import { TestClock } from "../../base/test_clock.ts";
import { createLocalExecutor } from "../../executors/local.ts";
import { containerRecord, TestStore } from "../../store/test_store.ts";
import { ImageRoots } from "./image_roots.ts";
import { removeUnknown } from "./left_containers.ts";
import { Node } from "./node.ts";
import { Places } from "./places.ts";

const [KNOWN, UNKNOWN, OF_CRUN] = ["1", "2", "3"].map((digit) => digit.repeat(64)) as [
  string,
  string,
  string,
];

for (const foreign of [".nfs0000001", ".snapshot", `.${KNOWN}.swp`, "lost+found"]) {
  Deno.test(`removeUnknown() removes containers without a record alone when ${foreign} lies beside them`, async () => {
    await using records = await TestStore.open();
    const { containers } = records.store;
    containers.put(containerRecord({ id: KNOWN }));
    const places = new Places(records.path("root"), records.path("state"));
    const { bundles, layers, files } = places.folders;
    for (const id of [KNOWN, UNKNOWN]) {
      for (const folder of [bundles, layers]) {
        await Deno.mkdir(join(folder, id), { recursive: true });
      }
      await Deno.mkdir(files, { recursive: true });
      await Deno.writeTextFile(join(files, `${id}.stdout`), "");
    }
    const folders = [bundles, layers, files];
    for (const folder of folders) await Deno.writeTextFile(join(folder, foreign), "");
    const executor = createLocalExecutor();
    const node = new Node(executor);
    const log = createLogger({ threshold: "error", write: () => {} });
    const deleted: string[] = [];
    await removeUnknown(
      {
        node,
        places,
        containers,
        imageRoots: new ImageRoots(executor, node, places, new TestClock(), log),
      },
      {
        list: () => Promise.resolve([KNOWN, OF_CRUN]),
        delete: (id) => Promise.resolve(void deleted.push(id)),
      },
      log,
    );
    assertEquals(deleted.sort(), [UNKNOWN, OF_CRUN]);
    const left = await Promise.all(
      folders.map(async (folder) =>
        (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name).sort()
      ),
    );
    const expected = (name: string) => [name, foreign].sort();
    assertEquals(left, [expected(KNOWN), expected(KNOWN), expected(`${KNOWN}.stdout`)]);
  });
}
