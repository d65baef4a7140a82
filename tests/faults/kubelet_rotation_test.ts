/** A real kubelet rotates the log of a job that writes faster than its log is looked at. */
import { assert, assertEquals } from "@std/assert";
import { Kubelet } from "../../scripts/lab/kubelet.ts";
import { Lab } from "../../scripts/lab/lab.ts";
import { NodeServer } from "../../scripts/lab/node_server.ts";
import {
  nothingLeft,
  pod,
  podSpec,
  prepareLab,
  removeStaticPod,
  RUN,
  untilEnded,
} from "../clients/pods.ts";

/** Some 250 MB, numbered. */
const LINES = 2_000_000;
const SCRIPT = `yes "$(printf %0100d 0)" | head -n ${LINES} | cat -n; exit 5`;

/** Reads all files of a log, the oldest first, and fails at a line that is not the next one. */
const CHECK = String.raw`cd "$1" && ls | grep -c . >&2
{ ls | grep '^0.log[.]' | sort; echo 0.log; } | xargs zcat -f |
  awk '$2 == "stdout" { n++; if ($4 != n) { print "not line " n ": " $0; exit } } END { print n }'`;

const lab = new Lab();
Deno.test.beforeAll(() => prepareLab(lab));

for (const bound of [[], ["--max-log-bytes", String(48 * 1024 * 1024)]]) {
  Deno.test(`a log that a kubelet rotates holds every line once with ${bound.join(" ") || "the usual bound"}`, async () => {
    const server = new NodeServer(lab, { name: "rotation", flags: bound });
    await server.forget();
    const kubelet = new Kubelet(lab, {
      socketPath: server.socketPath,
      config: {
        containerLogMaxSize: "10Mi",
        containerLogMaxFiles: 100,
        // The shortest that it takes.
        containerLogMonitorInterval: "3s",
      },
    });
    try {
      await server.start();
      await kubelet.start();
      const name = `rotated-${bound.length}-${RUN}`;
      await kubelet.writeStaticPod(
        name,
        pod(name, podSpec(lab, [{ name: "main", script: SCRIPT }])),
      );
      const { metadata, status } = await untilEnded(kubelet, name);
      assertEquals(status.containerStatuses?.[0]?.state.terminated?.exitCode, 5);
      const folder = `/var/log/pods/${metadata.namespace}_${metadata.name}_${metadata.uid}/main`;
      const check = await lab.exec("knode", ["sh", "-c", CHECK, "sh", folder], {
        timeoutMs: 120_000,
      });
      assertEquals(check.stdout, `${LINES}\n`);
      assert(Number(check.stderr) > 2, `${check.stderr} files`);
      await removeStaticPod(kubelet, name);
    } finally {
      await kubelet.remove();
      for (const id of (await server.crictlOk(["pods", "-q"])).split("\n")) {
        if (id !== "") await server.crictlOk(["rmp", "--force", id]);
      }
      await server.stop();
    }
    await nothingLeft(lab);
  });
}
