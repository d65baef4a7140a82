import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { CriError } from "../../base/error.ts";
import { createLogger } from "../../base/log.ts";
import type { ClusterChoice, Clusters } from "../../config/clusters.ts";
import { TestStore } from "../../store/test_store.ts";
import { SandboxPlaces } from "./sandbox_places.ts";
import { namesIn } from "./test_scripts.ts";
import { TestCluster } from "./test_cluster.ts";

const LOGIN = { host: "login", port: 22, user: "u", password: "secret" };
const OWN: ClusterChoice = { kind: "own", login: LOGIN };
const NAMED: ClusterChoice = { kind: "named", name: "hpc" };

interface Made {
  places: SandboxPlaces;
  cluster: TestCluster;
  directory: string;
  kept: () => Promise<string[]>;
}

/** Registers a test on a sandbox with a shared volume on the cluster. */
function test(name: string, use: (made: Made) => Promise<void>): void {
  Deno.test(name, async () => {
    await using cluster = await TestCluster.create();
    await using records = await TestStore.open();
    const { secrets } = records.store;
    const clusters: Clusters = { allowed: [], named: new Map(), defaultName: undefined };
    const log = createLogger({ threshold: "error", write: () => {} });
    const places = new SandboxPlaces(secrets, clusters, cluster.sessions, log);
    const directory = join(cluster.home, "multi-cri/it's s1");
    await Deno.mkdir(join(directory, "volumes/data"), { recursive: true });
    await use({ places, cluster, directory, kept: () => secrets.ids() });
  });
}

test("SandboxPlaces removes what a sandbox shared, once", async ({ places, directory, kept }) => {
  await Promise.all(
    [1, 2, 3].map(() => places.add("s1", { cluster: OWN, directory, allocation: false })),
  );
  assertEquals(await kept(), ["s1"]);
  await places.clean("s1");
  assertEquals([namesIn(directory), await kept()], [undefined, []]);
  await places.clean("s1");
});

test("SandboxPlaces keeps a place while the cluster is away", async (made) => {
  const { places, cluster, directory, kept } = made;
  await places.add("s1", { cluster: OWN, directory, allocation: false });
  cluster.offline = new CriError("UNAVAILABLE", "no route");
  await assertRejects(() => places.clean("s1"), CriError, "no route");
  assertEquals(await kept(), ["s1"]);
  cluster.offline = undefined;
  await places.clean("s1");
  assertEquals(namesIn(directory), undefined);
});

test("SandboxPlaces lets a sandbox go when the login is gone, or the cluster given up", async (made) => {
  const { places, cluster, directory, kept } = made;
  await places.add("s1", { cluster: NAMED, directory, allocation: false });
  await places.clean("s1");
  assertEquals([namesIn(directory), await kept()], [["volumes"], []]);
  await places.add("s1", { cluster: OWN, directory, allocation: false });
  await places.forget("s1", OWN);
  cluster.offline = new CriError("UNAVAILABLE", "no route");
  await places.clean("s1");
  assertEquals([namesIn(directory), await kept()], [["volumes"], []]);
});
