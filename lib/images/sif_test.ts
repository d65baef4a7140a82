import { assertEquals, assertRejects } from "@std/assert";
import { CriError } from "../base/error.ts";
import type { Executor } from "../executors/executor.ts";
import { PLAIN_SIF_CONFIG, readSifConfig } from "./sif.ts";

/** As Apptainer 1.4 prints it. */
const TABLE = `------------------------------------------------------------------------------
ID   |GROUP   |LINK    |SIF POSITION (start-end)  |TYPE
------------------------------------------------------------------------------
1    |1       |NONE    |32176-32322               |Def.FILE
2    |1       |NONE    |32322-34286               |JSON.Generic
3    |1       |NONE    |34286-34376               |JSON.Generic
4    |1       |NONE    |36864-1138688             |FS (Squashfs/*System/amd64)
`;
const metadata = (runscript: string) =>
  JSON.stringify({
    data: { attributes: { runscript, labels: { Author: "me" } } },
    type: "container",
  });
const OCI = JSON.stringify({
  Entrypoint: ["/bin/show"],
  Cmd: ["$HOME"],
  Env: ["PATH=/bin"],
  User: "1234:2345",
  WorkingDir: "/srv",
  StopSignal: "SIGINT",
});
const PLAIN = { ...PLAIN_SIF_CONFIG, labels: { Author: "me" } };
const CONVERTED = {
  user: "1234:2345",
  env: ["PATH=/bin"],
  entrypoint: ["/bin/show"],
  cmd: ["$HOME"],
  workingDir: "/srv",
  labels: { Author: "me" },
  stopSignal: "SIGINT",
};

/** An apptainer whose SIF holds these descriptions as objects 2 and 3. */
function apptainer(descriptions: readonly string[], table = TABLE): Executor {
  const encode = (text: string) => new TextEncoder().encode(text);
  return {
    run([, , , verb, id]) {
      const stdout = verb === "list" ? table : descriptions[Number(id) - 2] ?? "";
      return Promise.resolve({
        code: table === "" ? 1 : 0,
        stdout: encode(stdout),
        stderr: encode(""),
      });
    },
  };
}

const converted = "#!/bin/sh\nOCI_ENTRYPOINT='/bin/show'\n";
for (
  const [what, descriptions, expected] of [
    ["was converted from an OCI image", [metadata(converted), OCI], CONVERTED],
    ["has a runscript of its own over an OCI image", [metadata("#!/bin/sh\nx"), OCI], PLAIN],
    ["was made without an OCI image", [metadata("#!/bin/sh\nx"), ""], PLAIN],
    ["says that it was converted and does not say of what", [metadata(converted), "{}"], PLAIN],
    ["holds damaged descriptions", ["{", "[1]"], PLAIN_SIF_CONFIG],
    ["holds other things", ['{"data":{"attributes":{"labels":[1]}}}', "3"], PLAIN_SIF_CONFIG],
  ] as const
) {
  Deno.test(`readSifConfig() tells how it runs when it ${what}`, async () => {
    const config = await readSifConfig(apptainer(descriptions), "apptainer", "/x.sif");
    assertEquals({ ...config, labels: { ...config.labels } }, {
      ...expected,
      labels: what === "holds other things" ? { 0: "" } : expected.labels,
    });
  });
}

Deno.test("readSifConfig() throws INVALID_ARGUMENT when the file is no SIF", async () => {
  const read = () => readSifConfig(apptainer([], ""), "apptainer", "/x.sif");
  assertEquals((await assertRejects(read, CriError, "is not")).code, "INVALID_ARGUMENT");
});
