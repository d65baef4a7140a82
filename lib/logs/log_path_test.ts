import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { CriError } from "../base/error.ts";
import { checkLogPath } from "./log_path.ts";

/** A folder for logs, reached by a link, and links in it that lead elsewhere. */
async function withFolders(use: (logs: string, elsewhere: string) => Promise<void>): Promise<void> {
  const directory = await Deno.realPath(await Deno.makeTempDir());
  const [logs, elsewhere] = [join(directory, "logs"), join(directory, "elsewhere")];
  try {
    await Deno.mkdir(join(directory, "disk", "pod"), { recursive: true });
    await Deno.mkdir(elsewhere);
    await Deno.symlink(join(directory, "disk"), logs);
    await Deno.symlink(elsewhere, join(logs, "link"));
    await Deno.symlink("pod", join(logs, "inside"));
    await Deno.writeTextFile(join(elsewhere, "file"), "");
    await Deno.symlink(join(elsewhere, "file"), join(logs, "pod", "link.log"));
    await use(logs, elsewhere);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

const PLACES: [place: string, logPath: string, leadsTo: string | undefined][] = [
  ["pod", "main.log", undefined],
  ["new", "main/0.log", undefined],
  ["inside", "main.log", undefined],
  ["link", "main.log", ""],
  ["link", "new/main.log", ""],
  ["pod", "link.log", "/file"],
];

for (const [place, logPath, leadsTo] of PLACES) {
  const what = leadsTo === undefined ? "takes" : "refuses, and makes nothing for,";
  Deno.test(`checkLogPath() ${what} a log at ${place}/${logPath}`, () =>
    withFolders(async (logs, elsewhere) => {
      const check = () => checkLogPath({ logDirectory: join(logs, place) }, { logPath }, logs);
      if (leadsTo === undefined) await check();
      else {
        const words = ` is a link to ${elsewhere}${leadsTo}, out of --pod-logs-dir (${logs}).`;
        await assertRejects(check, CriError, words);
      }
      const left = await Array.fromAsync(Deno.readDir(elsewhere), ({ name }) => name);
      assertEquals(left, ["file"]);
    }));
}

Deno.test("checkLogPath() refuses a link to nothing, which opening the log would make", () =>
  withFolders(async (logs, elsewhere) => {
    await Deno.symlink(join(elsewhere, "new"), join(logs, "main.log"));
    await assertRejects(
      () => checkLogPath({ logDirectory: logs }, { logPath: "main.log" }, logs),
      CriError,
      "main.log is a link to nothing.",
    );
  }));

Deno.test("checkLogPath() refuses a log that does not lie below the logs' folder", async () => {
  for (const logDirectory of ["/etc", "/var/log/pods-of-others", "pods", "/var/log/pods/../x"]) {
    await assertRejects(
      () => checkLogPath({ logDirectory }, { logPath: "main.log" }, "/var/log/pods"),
      CriError,
      "log_directory must lie below --pod-logs-dir (/var/log/pods).",
    );
  }
  await checkLogPath({ logDirectory: "" }, { logPath: "main.log" }, "/var/log/pods");
});
