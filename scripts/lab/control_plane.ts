import { clientFile, ensureClient } from "../clients.ts";
import type { Lab } from "./lab.ts";
import { NodeProgram } from "./node_program.ts";
import type { CommandResult } from "./process.ts";
import type { Progress } from "./progress.ts";
import { KNODE_PATHS } from "./settings.ts";

const START_TIMEOUT_MS = 120_000;
const KUBECTL_TIMEOUT_MS = 60_000;

const FOLDER = "/run/control-plane";
const API_PORT = 6443;
const CONTROLLER_MANAGER_PORT = 10257;
const ETCD_PORT = 2379;
const ETCD_PEER_PORT = 2380;

/** A store, an API server and the controller of Jobs in the lab's Kubernetes node, on its loopback. */
export interface ControlPlane {
  /** A kubeconfig of an administrator, as a path in the node. */
  readonly kubeconfig: string;
  /** Runs kubectl in the node to its end; a non-zero exit code is a result. */
  kubectl(args: readonly string[], stdin?: string): Promise<CommandResult>;
  /** As `kubectl`, for commands that must succeed. @throws Error with what kubectl wrote. */
  kubectlOk(args: readonly string[], stdin?: string): Promise<string>;
  /** Ends all and removes what they stored. */
  stop(): Promise<void>;
}

/**
 * Starts etcd and kube-apiserver with an empty store, and kube-controller-manager with its controller of Jobs
 * alone. There is no scheduler: a pod must name its node. All die with the caller's program.
 *
 * @throws {Error} when one is not ready within two minutes; the message names its log.
 */
export async function startControlPlane(
  lab: Lab,
  progress: Progress = () => {},
): Promise<ControlPlane> {
  await ensureClient("kube-apiserver", progress);
  await ensureClient("kube-controller-manager", progress);
  await ensureClient("kubectl", progress);
  await lab.exec("knode", ["rm", "-rf", FOLDER]);
  await writeFiles(lab);
  const programs: NodeProgram[] = [];
  const plane: ControlPlane = {
    kubeconfig: `${FOLDER}/kubeconfig`,
    kubectl: (args, stdin) => kubectl(lab, args, stdin),
    kubectlOk: (args, stdin) => kubectlOk(lab, args, stdin),
    stop: async () => {
      for (const program of programs.reverse()) await program.stop();
      await lab.exec("knode", ["rm", "-rf", FOLDER]);
    },
  };
  const start = async (name: string, argv: string[], answers: () => Promise<boolean>) => {
    const spec = { name, argv, logPath: `/var/log/${name}.log` };
    programs.push(await NodeProgram.start(lab, spec, { answers, timeoutMs: START_TIMEOUT_MS }));
  };
  try {
    await start("etcd", etcdArgv(), () => listens(lab, ETCD_PORT));
    await start(
      "kube-apiserver",
      apiserverArgv(lab),
      async () => (await plane.kubectl(["get", "--raw", "/readyz"])).code === 0,
    );
    await start(
      "kube-controller-manager",
      controllerManagerArgv(),
      () => listens(lab, CONTROLLER_MANAGER_PORT),
    );
  } catch (error) {
    await plane.stop();
    throw error;
  }
  return plane;
}

/** Whether somebody listens on a port of the node's loopback. */
async function listens(lab: Lab, port: number): Promise<boolean> {
  const connect = ["bash", "-c", `exec 3<>/dev/tcp/127.0.0.1/${port}`];
  return (await lab.exec("knode", connect)).code === 0;
}

async function kubectl(lab: Lab, args: readonly string[], stdin?: string): Promise<CommandResult> {
  const program = `${KNODE_PATHS.clients}/${clientFile("kubectl")}`;
  return await lab.exec("knode", [program, "--kubeconfig", `${FOLDER}/kubeconfig`, ...args], {
    timeoutMs: KUBECTL_TIMEOUT_MS,
    ...(stdin === undefined ? {} : { stdin }),
  });
}

async function kubectlOk(lab: Lab, args: readonly string[], stdin?: string): Promise<string> {
  const { code, stdout, stderr } = await kubectl(lab, args, stdin);
  if (code !== 0) throw new Error(`kubectl ${args.join(" ")} failed: ${stderr || stdout}`);
  return stdout.trim();
}

function etcdArgv(): string[] {
  const client = `http://127.0.0.1:${ETCD_PORT}`;
  const peer = `http://127.0.0.1:${ETCD_PEER_PORT}`;
  return [
    ...["etcd", "--name", "lab", "--data-dir", `${FOLDER}/etcd`, "--log-level", "warn"],
    ...["--listen-client-urls", client, "--advertise-client-urls", client],
    ...["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer],
    ...["--initial-cluster", `lab=${peer}`, "--unsafe-no-fsync"],
  ];
}

function apiserverArgv(lab: Lab): string[] {
  return [
    `${KNODE_PATHS.clients}/${clientFile("kube-apiserver")}`,
    `--etcd-servers=http://127.0.0.1:${ETCD_PORT}`,
    "--bind-address=127.0.0.1",
    `--secure-port=${API_PORT}`,
    `--advertise-address=${lab.address("knode")}`,
    // It makes its own certificate there.
    `--cert-dir=${FOLDER}/pki`,
    "--service-cluster-ip-range=10.0.0.0/24",
    "--service-account-issuer=https://kubernetes.default.svc",
    `--service-account-key-file=${FOLDER}/service-account.pub`,
    `--service-account-signing-key-file=${FOLDER}/service-account.key`,
    `--token-auth-file=${FOLDER}/tokens.csv`,
    "--authorization-mode=AlwaysAllow",
    "--endpoint-reconciler-type=none",
    // Both wait for controllers that are not there.
    "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
    "--allow-privileged=true",
  ];
}

function controllerManagerArgv(): string[] {
  return [
    `${KNODE_PATHS.clients}/${clientFile("kube-controller-manager")}`,
    `--kubeconfig=${FOLDER}/kubeconfig`,
    "--bind-address=127.0.0.1",
    `--secure-port=${CONTROLLER_MANAGER_PORT}`,
    "--controllers=job-controller",
    // There is one.
    "--leader-elect=false",
  ];
}

async function writeFiles(lab: Lab): Promise<void> {
  const token = crypto.randomUUID();
  const files: Record<string, string> = {
    ...await serviceAccountKeys(),
    "tokens.csv": `${token},admin,admin,system:masters\n`,
    kubeconfig: JSON.stringify({
      apiVersion: "v1",
      kind: "Config",
      clusters: [{
        name: "lab",
        cluster: { server: `https://127.0.0.1:${API_PORT}`, "insecure-skip-tls-verify": true },
      }],
      users: [{ name: "admin", user: { token } }],
      contexts: [{ name: "lab", context: { cluster: "lab", user: "admin" } }],
      "current-context": "lab",
    }),
  };
  await Deno.mkdir(lab.path("knode", FOLDER), { mode: 0o700 });
  for (const [name, text] of Object.entries(files)) {
    await Deno.writeTextFile(lab.path("knode", `${FOLDER}/${name}`), text, { mode: 0o600 });
  }
}

/** A new pair of keys that sign service accounts' tokens and check them: PKCS #8 and SPKI in PEM. */
async function serviceAccountKeys(): Promise<Record<string, string>> {
  const algorithm = { name: "ECDSA", namedCurve: "P-256" };
  const pair = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  return {
    "service-account.key": pem(
      "PRIVATE KEY",
      await crypto.subtle.exportKey("pkcs8", pair.privateKey),
    ),
    "service-account.pub": pem("PUBLIC KEY", await crypto.subtle.exportKey("spki", pair.publicKey)),
  };
}

/** RFC 7468. */
function pem(label: string, der: ArrayBuffer): string {
  const lines = new Uint8Array(der).toBase64().match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ""].join("\n");
}
