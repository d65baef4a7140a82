/**
 * Whatever a pod can write arrives as it is, or is refused; nothing of it is run, on the node or on the cluster. Every
 * payload would leave a file named INJECTED somewhere if any shell, option parser or file name took it for its own.
 */
import { assert, assertEquals } from "@std/assert";
import { Harness, type JobSpec } from "./harness.ts";

const INJECTED = "injected-by-a-pod";
const TOUCH = `touch ${INJECTED}`;

const PAYLOADS: readonly string[] = [
  `$(${TOUCH})`,
  `\`${TOUCH}\``,
  `; ${TOUCH}; :`,
  `'; ${TOUCH}; '`,
  `"; ${TOUCH}; "`,
  `\\'; ${TOUCH} #`,
  `| ${TOUCH}`,
  `&& ${TOUCH}`,
  `\n${TOUCH}\n`,
  `\n#SBATCH --wrap='${TOUCH}'\n`,
  `\${x:-$(${TOUCH})}`,
  `--wrap=${TOUCH}`,
  `-o ProxyCommand=${TOUCH}`,
  `%j/../../${INJECTED}`,
  `../../../${INJECTED}`,
  `x)$(${TOUCH})(`,
  `\r\n${TOUCH}\r\n`,
  `!${TOUCH}`,
  `{${TOUCH},}`,
  `<(${TOUCH})`,
];

/** Where a payload would leave its file. */
const PLACES = ["/home", "/tmp", "/root", "/var/tmp", "/var/spool", "/run", "/var/log", "/opt"];

let harness: Harness;
Deno.test.beforeAll(async () => {
  harness = await Harness.start({ name: "inject" });
});
Deno.test.afterAll(() => harness?.stop());

/** @throws when a file was left on any host. */
async function nothingInjected(what: string): Promise<void> {
  for (const host of ["ctl", "n1", "n2", "knode"] as const) {
    const find = ["find", "/", "-maxdepth", "1", "-name", `${INJECTED}*`];
    const everywhere = ["find", ...PLACES, "-xdev", "-name", `${INJECTED}*`];
    for (const argv of [find, everywhere]) {
      const { stdout } = await harness.lab.exec(host, argv);
      assertEquals(stdout, "", `${what} left a file on ${host}`);
    }
  }
}

/** Fields whose text reaches the program or the cluster as it is. */
function carried(payload: string): JobSpec {
  const text = payload.replaceAll("\0", "");
  return {
    command: ["/bin/sh", "-c", 'printf "%s\\0" "$VALUE" "$@"', text],
    args: [text, `a${text}`],
    env: { VALUE: text, [`NAME.${text.replaceAll("=", "_")}`]: text },
    annotations: { [text]: text, "multicri.io/custom-config": text },
    containerAnnotations: { [text]: text },
    cluster: { JOB_CUSTOM_CONFIG: text },
    podFields: {
      metadata: {
        name: `n${text}`,
        namespace: `s${text}`,
        uid: `${crypto.randomUUID()}${text}`,
        attempt: 0,
      },
      hostname: text,
      labels: { [text]: text },
      dns_config: { servers: [text], searches: [text], options: [text] },
    },
    containerFields: {
      metadata: { name: `c${text}`, attempt: 0 },
      labels: { [text]: text },
    },
  };
}

for (const payload of PAYLOADS) {
  Deno.test(`what a pod writes is inert when it is ${JSON.stringify(payload)}`, async () => {
    const spec = carried(payload);
    let made;
    try {
      made = await harness.create(spec);
    } catch (error) {
      // A custom configuration may ask for what is an option's, or a name may have no form in Slurm.
      assert(/InvalidArgument/.test(String(error)), String(error));
      const { annotations: _annotations, cluster: _cluster, podFields: _pod, ...rest } = spec;
      made = await harness.create({ ...rest, containerFields: {} });
    }
    const { code, stderr } = await harness.server.crictl(["start", made.container]);
    const { status } = await harness.exited(made.container);
    if (code === 0) {
      assertEquals([status.exitCode, status.reason], [0, "Completed"], status.message);
      const text = await Deno.readTextFile(harness.lab.path("knode", status.logPath));
      assert(text.includes(" stdout "), text);
    } else {
      assertEquals(status.reason, "StartError", stderr);
    }
    await harness.server.crictlOk(["rmp", "--force", made.pod]);
    await nothingInjected("a job");
  });
}

/** Fields that are refused unless they are plain words. */
const REFUSED: Record<string, (payload: string) => JobSpec> = {
  CLUSTER_HOST: (payload) => ({ cluster: { CLUSTER_HOST: payload } }),
  CLUSTER_PORT: (payload) => ({ cluster: { CLUSTER_PORT: payload } }),
  CLUSTER_USERNAME: (payload) => ({ cluster: { CLUSTER_USERNAME: payload } }),
  CLUSTER_JUMP_HOST: (payload) => ({ cluster: { CLUSTER_JUMP_HOST: payload } }),
  CLUSTER_KEYVALUE: (payload) => ({ cluster: { CLUSTER_KEYVALUE: payload } }),
  JOB_QUEUE: (payload) => ({ cluster: { JOB_QUEUE: payload } }),
  JOB_GPU: (payload) => ({ cluster: { JOB_GPU: payload } }),
  JOB_NUM_NODES: (payload) => ({ cluster: { JOB_NUM_NODES: payload } }),
  JOB_NUM_CORES: (payload) => ({ cluster: { JOB_NUM_CORES: payload } }),
  "multicri.io/cluster": (payload) => ({
    cluster: {
      CLUSTER_HOST: undefined,
      CLUSTER_PORT: undefined,
      CLUSTER_USERNAME: undefined,
      CLUSTER_PASSWORD: undefined,
    },
    annotations: { "multicri.io/cluster": payload },
  }),
  "multicri.io/time-limit": (payload) => ({ annotations: { "multicri.io/time-limit": payload } }),
  "multicri.io/warning-signal": (payload) => ({
    annotations: { "multicri.io/warning-signal": payload },
  }),
  "image.image": (payload) => ({ image: `multicri/docker.${payload}` }),
  "mounts.host_path": (payload) => ({
    mounts: [{ host_path: `/${payload}`, container_path: "/x" }],
  }),
  log_path: (payload) => ({ containerFields: { log_path: `../../../../root/${payload}` } }),
};

for (const [field, specOf] of Object.entries(REFUSED)) {
  Deno.test(`a pod is refused when ${field} is no plain word`, async () => {
    await Promise.all(PAYLOADS.map(async (payload) => {
      const outcome = await harness.create({ command: ["true"], ...specOf(payload) }).then(
        () => "created",
        (error: Error) => error.message,
      );
      assert(
        /InvalidArgument|NotFound|PermissionDenied/.test(outcome),
        `${JSON.stringify(payload)}: ${outcome}`,
      );
    }));
    await nothingInjected(field);
    const pods = (await harness.server.crictlOk(["pods", "-q", "--no-trunc"])).split("\n");
    await harness.server.crictlOk(["rmp", "--force", ...pods.filter((pod) => pod !== "")]);
  });
}

/** Fields of which the cluster's answer is the judge. */
const JUDGED: Record<string, (payload: string) => JobSpec> = {
  working_dir: (payload) => ({ workingDir: `/${payload}` }),
  mounts: (payload) => ({
    mounts: [{
      host_path: `/var/lib/kubelet/pods/${payload.replaceAll("/", "_")}/x`,
      container_path: `/dev/${payload}`,
    }],
  }),
  ...Object.fromEntries(
    ["account", "qos", "constraint", "reservation", "licenses", "gres"].map((name) => [
      `multicri.io/${name}`,
      (payload: string): JobSpec => ({
        annotations: { [`multicri.io/${name}`]: payload.replaceAll(/\s+/g, "${IFS}") },
      }),
    ]),
  ),
};

for (const [field, specOf] of Object.entries(JUDGED)) {
  Deno.test(`${field} is inert whatever it holds`, async () => {
    await Promise.all(PAYLOADS.map(async (payload) => {
      const spec = { command: ["/bin/true"], ...specOf(payload) };
      const made = await harness.create(spec).catch((error: Error) => error);
      if (made instanceof Error) {
        assert(/InvalidArgument|Unimplemented/.test(made.message), made.message);
        return;
      }
      const { code } = await harness.server.crictl(["start", made.container]);
      if (code === 0) await harness.exited(made.container);
    }));
    await nothingInjected(field);
    const pods = (await harness.server.crictlOk(["pods", "-q", "--no-trunc"])).split("\n");
    await harness.server.crictlOk(["rmp", "--force", ...pods.filter((pod) => pod !== "")]);
  });
}

Deno.test("the words of a command that is run in a container are inert", async () => {
  const made = await harness.run({ command: ["/bin/sh", "-c", "sleep 600"] });
  await harness.running(made.container);
  for (const payload of PAYLOADS) {
    const argv = ["exec", "--sync", made.container, "/bin/echo", "-n", payload];
    // crictl adds a newline.
    const { stdout } = await harness.server.crictl(argv);
    assertEquals(stdout.slice(0, payload.length), payload);
  }
  await harness.removeCleanly(made);
  await nothingInjected("exec");
});
