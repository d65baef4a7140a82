import { assertEquals, assertStringIncludes } from "@std/assert";
import { basename, dirname, join } from "@std/path";
import { quoteShell } from "../../../wasm/core.ts";
import { SUBMIT_EXIT, submitScript } from "./cluster_scripts.ts";
import {
  archive,
  JOB_NAME,
  namesIn,
  type ScriptPlace,
  testInShells,
  text,
} from "./test_scripts.ts";
import {
  cleanSandboxScript,
  makeDirectoriesScript,
  refreshScript,
  volumeScript,
} from "./volume_scripts.ts";

/** A copied volume of a container, with a version as the kubelet makes it. */
async function volumeOf(place: ScriptPlace): Promise<string> {
  const directory = join(place.directory, "volumes/0");
  await Deno.mkdir(join(directory, "..2026_1"), { recursive: true });
  await Deno.writeTextFile(join(directory, "..2026_1/token"), "first");
  await Deno.writeTextFile(join(directory, "..2026_1/old"), "first");
  await Deno.symlink("..2026_1", join(directory, "..data"));
  for (const name of ["token", "old"]) {
    await Deno.symlink(`..data/${name}`, join(directory, name));
  }
  return directory;
}

const LINKS = ["token", "it's new"].map((name) => ({ name, target: `..data/${name}` }));

async function refresh(place: ScriptPlace, directory: string, version: string) {
  const stdin = await archive({ [`${version}/token`]: version, [`${version}/it's new`]: "x" });
  return await place.cluster.run(refreshScript(directory, version, LINKS), { stdin });
}

testInShells({
  "refreshScript() shows the new version, and keeps the one before until the next": async (
    place,
  ) => {
    const directory = await volumeOf(place);
    assertEquals((await refresh(place, directory, "..2026_2")).code, 0);
    assertEquals(await Deno.readTextFile(join(directory, "token")), "..2026_2");
    assertEquals(await Deno.readTextFile(join(directory, "it's new")), "x");
    assertEquals(namesIn(directory), ["..2026_1", "..2026_2", "..data", "it's new", "token"]);
    assertEquals((await refresh(place, directory, "..2026_3")).code, 0);
    assertEquals(namesIn(directory), ["..2026_2", "..2026_3", "..data", "it's new", "token"]);
  },

  "refreshScript() changes nothing when the version is there, or the container gone": async (
    place,
  ) => {
    const directory = await volumeOf(place);
    assertEquals((await refresh(place, directory, "..2026_1")).code, 0);
    assertEquals(await Deno.readTextFile(join(directory, "token")), "first");
    await Deno.remove(dirname(directory), { recursive: true });
    assertEquals((await refresh(place, directory, "..2026_2")).code, 0);
    assertEquals(namesIn(dirname(directory)), undefined);
  },

  "refreshScript() leaves the version before when the new one arrives in part": async (place) => {
    const directory = await volumeOf(place);
    const stdin = (await archive({ "..2026_2/token": "x".repeat(2000) })).subarray(0, 1000);
    const script = refreshScript(directory, "..2026_2", LINKS);
    assertEquals((await place.cluster.run(script, { stdin })).code, 74);
    assertEquals(await Deno.readTextFile(join(directory, "token")), "first");
    assertEquals((await refresh(place, directory, "..2026_2")).code, 0);
    assertEquals(await Deno.readTextFile(join(directory, "token")), "..2026_2");
  },

  "submitScript() makes directories with their modes, and leaves what is there": async (place) => {
    const root = join(dirname(place.directory), "volumes");
    const made = [
      { root: dirname(root), part: "volumes", mode: 0o700 },
      { root, part: "it's b", mode: 0o777 },
      { root, part: "it's b/-c/file", mode: 0o755, isFile: true },
    ];
    const submit = async () => {
      const { directory } = place;
      const options = { directory, jobName: JOB_NAME, optionNames: [], environment: [], made };
      const stdin = await archive({ "job.sh": `#SBATCH --job-name="${JOB_NAME}"\n` });
      return await place.cluster.run(submitScript(options), { stdin });
    };
    assertEquals(text((await submit()).stdout), "101\n");
    const modes = await Promise.all(
      ["", "it's b", "it's b/-c", "it's b/-c/file"].map(async (part) =>
        (await Deno.stat(join(root, part))).mode
      ),
    );
    assertEquals(modes, [0o40700, 0o40777, 0o40755, 0o100600]);
    await Deno.writeTextFile(join(root, "it's b/-c/file"), "kept");
    assertEquals((await submit()).code, 0);
    assertEquals(await Deno.readTextFile(join(root, "it's b/-c/file")), "kept");
    await Deno.remove(join(root, "it's b"), { recursive: true });
    await Deno.symlink("/etc", join(root, "it's b"));
    const refused = await submit();
    assertEquals(refused.code, SUBMIT_EXIT.FILES);
    assertStringIncludes(text(refused.stderr), "it's b is a link");
  },

  "makeDirectoriesScript() gives a directory its mode as it makes it, whatever the umask": async (
    place,
  ) => {
    await Deno.mkdir(place.directory, { recursive: true });
    const [root, part] = [place.directory, "it's shared"];
    const script = `chmod() { return 1; }\numask 077\n${
      makeDirectoriesScript([{ root, part, mode: 0o777 }], 9)
    }`;
    assertEquals((await place.cluster.run(script)).code, 0);
    assertEquals((await Deno.stat(join(root, part))).mode, 0o40777);
  },

  "makeDirectoriesScript() makes nothing behind a link that comes after the look": async (
    place,
  ) => {
    const root = join(place.directory, "volume");
    const outside = join(place.directory, "outside");
    await Deno.mkdir(root, { recursive: true });
    await Deno.mkdir(outside);
    // What a program does between the look at a directory and the step into it.
    const swap = `mkdir() { command mkdir "$@" && rmdir ./a && ln -s ${
      quoteShell(outside)
    } ./a; }\n`;
    for (const isFile of [false, true]) {
      const made = makeDirectoriesScript([{ root, part: "a/b", mode: 0o777, isFile }], 9);
      const { code, stderr } = await place.cluster.run(swap + made);
      assertEquals([code, text(stderr)], [9, `${root}/a is a link\n`]);
      assertEquals(namesIn(outside), []);
      await Deno.remove(join(root, "a"));
    }
    await Deno.symlink(join(outside, "new"), join(root, "file"));
    const made = makeDirectoriesScript([{ root, part: "file", mode: 0o777, isFile: true }], 9);
    // As if it came after the look.
    const { code } = await place.cluster.run(made.replaceAll('[ ! -L "./$name" ] || refuse', ""));
    assertEquals([code, namesIn(outside)], [9, []]);
  },

  "makeDirectoriesScript() takes a volume that the site made a link": async (place) => {
    const [site, root] = [join(place.directory, "site"), join(place.directory, "volume")];
    await Deno.mkdir(site, { recursive: true });
    await Deno.symlink(site, root);
    const made = makeDirectoriesScript([{ root, part: "a/b", mode: 0o755 }], 9);
    assertEquals((await place.cluster.run(made)).code, 0);
    assertEquals(namesIn(join(site, "a")), ["b"]);
  },

  "cleanSandboxScript() removes what is shared when no container is there": async (place) => {
    const sandbox = dirname(place.directory);
    await place.submit();
    await Deno.mkdir(join(sandbox, "volumes/data"), { recursive: true });
    const clean = () => place.cluster.run(cleanSandboxScript(sandbox));
    assertEquals((await clean()).code, 0);
    assertEquals(namesIn(sandbox), [basename(place.directory), "volumes"]);
    await Deno.remove(join(place.directory, "job.sh"));
    assertEquals((await clean()).code, 0);
    // Results of a container that was removed.
    assertEquals(namesIn(sandbox), [basename(place.directory)]);
    await Deno.remove(place.directory, { recursive: true });
    assertEquals((await clean()).code, 0);
    assertEquals([namesIn(sandbox), (await clean()).code], [undefined, 0]);
  },

  "cleanSandboxScript() removes what a program has closed to its own user": async (place) => {
    const sandbox = dirname(place.directory);
    const closed = join(sandbox, "volumes/data/a b/c");
    await Deno.mkdir(closed, { recursive: true });
    await Deno.writeTextFile(join(closed, "file"), "");
    const outside = await Deno.makeTempDir();
    await Deno.chmod(outside, 0o500);
    await Deno.symlink(outside, join(sandbox, "volumes/link"));
    for (const path of [closed, dirname(closed), join(sandbox, "volumes")]) {
      await Deno.chmod(path, path === closed ? 0o000 : 0o555);
    }
    try {
      const { code, stderr } = await place.cluster.run(cleanSandboxScript(sandbox));
      assertEquals([code, text(stderr), namesIn(sandbox)], [0, "", undefined]);
      assertEquals(((await Deno.stat(outside)).mode ?? 0) & 0o777, 0o500);
    } finally {
      await Deno.remove(outside);
    }
  },

  "volumeScript() says when it made the directory": async (place) => {
    const run = async () => text((await place.cluster.run(volumeScript(place.directory))).stdout);
    assertEquals([await run(), await run(), place.names()], ["made\n", "", []]);
  },

  "volumeScript() refuses what is no directory": async (place) => {
    await Deno.mkdir(place.directory, { recursive: true });
    const path = join(place.directory, "claim");
    for (const make of [() => Deno.writeTextFile(path, ""), () => Deno.symlink("/nowhere", path)]) {
      await make();
      const { code, stderr } = await place.cluster.run(volumeScript(path));
      assertEquals([code, text(stderr)], [
        1,
        "in its place is a file, or a link that leads nowhere; remove it\n",
      ]);
      await Deno.remove(path);
    }
  },
});
