import { CriError } from "../base/error.ts";
import type { Executor } from "../executors/executor.ts";
import type { OciImageConfig } from "../store/records.ts";
import { imageConfig } from "./oci_layout.ts";

/** Reading descriptions out of a SIF takes milliseconds; a file that takes longer is none. */
const READ_TIMEOUT_MS = 60_000;
/** A SIF holds two descriptions of a few KiB; a bound keeps a hostile one from being read for ever. */
const MAX_DESCRIPTIONS = 16;

/** What a SIF runs that was not converted from an OCI image, as `apptainer run` does. */
const RUNSCRIPT = "/.singularity.d/runscript";
/** Stands in the runscript of a SIF that Apptainer converted from an OCI image and nobody gave another. */
const CONVERTED = /^OCI_ENTRYPOINT=/m;

/**
 * How a SIF runs that brings nothing of its own to tell: its runscript, with the pod's `args` as arguments. Its
 * environment is set by its own scripts, which Apptainer runs in any case.
 */
export const PLAIN_SIF_CONFIG: OciImageConfig = {
  user: "",
  env: [],
  entrypoint: [RUNSCRIPT],
  cmd: [],
  workingDir: "",
  labels: {},
  stopSignal: "",
};

/**
 * How the image in a SIF wants to be run, told from the descriptions that Apptainer and SingularityCE put into it; no
 * program of the image is run. A SIF converted from an OCI image runs as that image; any other one, also one whose
 * definition file begins at an OCI image and has a `%runscript`, by its runscript.
 * @throws CriError INVALID_ARGUMENT when the file is no SIF.
 */
export async function readSifConfig(
  executor: Executor,
  apptainer: string,
  path: string,
): Promise<OciImageConfig> {
  const run = (args: readonly string[]) =>
    executor.run([apptainer, "--quiet", "sif", ...args], { timeoutMs: READ_TIMEOUT_MS });
  const listed = await run(["list", path]);
  if (listed.code !== 0) {
    throw new CriError(
      "INVALID_ARGUMENT",
      "Cannot use the image: what was downloaded must be a SIF (Singularity Image Format), and is not.",
    );
  }
  const rows = new TextDecoder().decode(listed.stdout).split("\n");
  const ids = rows.filter((row) => row.includes("JSON.Generic")).map((row) => row.split("|")[0]);
  const descriptions: Record<string, unknown>[] = [];
  for (const id of ids.slice(0, MAX_DESCRIPTIONS)) {
    const dumped = await run(["dump", (id ?? "").trim(), path]);
    descriptions.push(jsonRecord(new TextDecoder().decode(dumped.stdout)));
  }
  return sifConfig(descriptions);
}

/** The configuration that the descriptions in a SIF stand for. */
function sifConfig(descriptions: readonly Record<string, unknown>[]): OciImageConfig {
  // inspect-metadata.json is {data: {attributes: {runscript, labels, …}}}; oci-config.json is the image's config.
  const attributes = descriptions.map((one) => child(child(one, "data"), "attributes"))
    .find((one) => Object.keys(one).length > 0) ?? {};
  const labels = imageConfig({ Labels: attributes["labels"] }).labels;
  const oci = descriptions.find((one) => !("data" in one) && Object.keys(one).length > 0);
  const converted = CONVERTED.test(String(attributes["runscript"] ?? ""));
  if (oci === undefined || !converted) return { ...PLAIN_SIF_CONFIG, labels };
  const config = imageConfig(oci);
  return { ...config, labels: { ...labels, ...config.labels } };
}

function child(value: Record<string, unknown>, key: string): Record<string, unknown> {
  const found = value[key];
  return typeof found === "object" && found !== null ? found as Record<string, unknown> : {};
}

function jsonRecord(text: string): Record<string, unknown> {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : {};
  } catch {
    // Somebody else's JSON.Generic that is none says nothing to us.
    return {};
  }
}
