import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import {
  claimImageScript,
  receiveImageScript,
  releaseImageScript,
  VOLUME_FILE_EXIT,
  volumeFileScript,
} from "./image_scripts.ts";
import { TestCluster } from "./test_cluster.ts";

const SIF = "i.sif";
const [MINE, HIS] = ["i.sif.1.part", "i.sif.2.part"];

interface Place {
  cluster: TestCluster;
  directory: string;
  write: (name: string, content: string) => Promise<void>;
  names: () => string[];
  /** What the script prints, in lines; its code when it failed. */
  run: (script: string, stdin?: string) => Promise<string[] | number>;
}

function test(name: string, use: (place: Place) => Promise<void>): void {
  Deno.test(name, async () => {
    await using cluster = await TestCluster.create();
    const directory = join(cluster.home, "it's images");
    await Deno.mkdir(directory);
    await use({
      cluster,
      directory,
      write: (name, content) => Deno.writeTextFile(join(directory, name), content),
      names: () => [...Deno.readDirSync(directory)].map((entry) => entry.name).toSorted(),
      run: async (script, stdin = "") => {
        const { code, stdout } = await cluster.run(script, {
          stdin: new TextEncoder().encode(stdin),
        });
        return code === 0 ? new TextDecoder().decode(stdout).trim().split("\n") : code;
      },
    });
  });
}

test("claimImageScript() gives the right to the first and shows the others what he does", async ({ directory, write, run }) => {
  const claim = async (part: string) => {
    const [holder, ...signs] = await run(claimImageScript(directory, SIF, part)) as string[];
    return [holder, signs.length];
  };
  // The signs are the link itself, and what is on its way.
  assertEquals(await claim(MINE), [MINE, 1]);
  assertEquals(await claim(HIS), [MINE, 1]);
  await write(`${MINE}.0123abcd.part`, "bytes on their way");
  assertEquals(await claim(HIS), [MINE, 2]);
});

test("claimImageScript() says that the image is there, and keeps no right", async ({ directory, write, names, run }) => {
  await write(SIF, "");
  assertEquals(await run(claimImageScript(directory, SIF, MINE)), ["there"]);
  assertEquals(names(), [SIF]);
});

test("claimImageScript() removes uploads that broke off a day ago", async ({ directory, write, names, run }) => {
  for (const name of ["old.part", "new.part", "old.sif", SIF]) await write(name, "");
  const longAgo = new Date(Date.now() - 49 * 3600 * 1000);
  for (const name of ["old.part", "old.sif"]) {
    await Deno.utime(join(directory, name), longAgo, longAgo);
  }
  await run(claimImageScript(directory, SIF, MINE));
  assertEquals(names(), [SIF, "new.part", "old.sif"]);
});

test("releaseImageScript() ends the right of its holder only", async ({ directory, write, names, run }) => {
  await run(claimImageScript(directory, SIF, MINE));
  await write(MINE, "");
  await write(`${MINE}.0123abcd.part`, "");
  await run(releaseImageScript(directory, SIF, HIS));
  assertEquals(names(), [MINE, `${MINE}.0123abcd.part`, "i.sif.lock"]);
  await run(releaseImageScript(directory, SIF, MINE));
  assertEquals(names(), []);
  assertEquals((await run(claimImageScript(directory, SIF, HIS)) as string[])[0], HIS);
});

for (const holder of ["../precious.part", "precious.part", "i.sif.x/../../precious.part"]) {
  test(`releaseImageScript() removes nothing but the link when that leads to ${holder}`, async ({ cluster, directory, write, names, run }) => {
    for (const name of ["../precious.part", "precious.part"]) await write(name, "");
    await Deno.mkdir(join(directory, "i.sif.x"));
    await Deno.symlink(holder, join(directory, "i.sif.lock"));
    assertEquals(
      (await run(claimImageScript(directory, SIF, MINE)) as string[])[0],
      holder,
    );
    await run(releaseImageScript(directory, SIF, holder));
    assertEquals(names(), ["i.sif.x", "precious.part"]);
    assertEquals(await Deno.readTextFile(join(cluster.home, "precious.part")), "");
  });
}

async function sha256(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return new Uint8Array(digest).toHex();
}

test("receiveImageScript() lands what arrived whole and removes what did not", async ({ directory, names, run }) => {
  const script = receiveImageScript(directory, SIF, MINE, await sha256("sif"));
  await run(claimImageScript(directory, SIF, MINE));
  assertEquals([await run(script, "broken"), names()], [1, ["i.sif.lock"]]);
  assertEquals([await run(script, "sif"), names()], [[""], [SIF]]);
  assertEquals(await Deno.readTextFile(join(directory, SIF)), "sif");
});

test("receiveImageScript() lands nothing when not all of it can be written", async ({ cluster, directory, names, run }) => {
  await cluster.program("cat", '\nhead -c 1; echo "no space left" >&2; exit 1');
  const script = receiveImageScript(directory, SIF, MINE, await sha256("sif"));
  assertEquals([await run(script, "sif"), names()], [1, []]);
});

const PATHS: readonly [path: string, outcome: string | number][] = [
  ["perl.img", "perl.img"],
  ["link.img", "perl.img"],
  ["-n", "-n"],
  ["sub/$(id) it's.img", "sub/$(id) it's.img"],
  ["missing.img", VOLUME_FILE_EXIT.NO_FILE],
  ["sub", VOLUME_FILE_EXIT.NO_FILE],
  ["dangling.img", VOLUME_FILE_EXIT.NO_FILE],
  ["out.img", VOLUME_FILE_EXIT.OUTSIDE],
  ["up/outside.img", VOLUME_FILE_EXIT.OUTSIDE],
];
for (const [path, outcome] of PATHS) {
  test(`volumeFileScript() gives ${outcome} when asked for ${path}`, async ({ cluster, directory, write, run }) => {
    await Deno.mkdir(join(directory, "sub"));
    for (const name of ["perl.img", "-n", "sub/$(id) it's.img", "../outside.img"]) {
      await write(name, "");
    }
    await Deno.symlink("perl.img", join(directory, "link.img"));
    await Deno.symlink("nowhere.img", join(directory, "dangling.img"));
    await Deno.symlink(join(cluster.home, "outside.img"), join(directory, "out.img"));
    await Deno.symlink("..", join(directory, "up"));
    const expected = typeof outcome === "number"
      ? outcome
      : [join(await Deno.realPath(directory), outcome)];
    assertEquals(await run(volumeFileScript(directory, path)), expected);
  });
}

test("volumeFileScript() says that there is no volume", async ({ directory, run }) => {
  assertEquals(await run(volumeFileScript(`${directory}/none`, "x")), VOLUME_FILE_EXIT.NO_VOLUME);
});
