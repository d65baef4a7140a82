/** A pod with every kind of volume that a kubelet makes by itself, and what its containers must see of them. */

/** Objects that the pod's volumes are made of; they must be there before it. */
export function volumeObjects(run: string): Record<string, unknown>[] {
  const metadata = { name: `volumes-${run}`, namespace: "default" };
  return [
    { apiVersion: "v1", kind: "ServiceAccount", metadata },
    settings(run, "one"),
    {
      apiVersion: "v1",
      kind: "Secret",
      metadata,
      stringData: { password: "it's $ecret" },
      data: { bytes: btoa("\x00\xff\n") },
    },
  ];
}

/** The ConfigMap, with another value. */
export function settings(run: string, value: string): Record<string, unknown> {
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: `volumes-${run}`, namespace: "default" },
    data: { value, "other.conf": "x = 1\n" },
  };
}

/** Runs before the pod's container, as short jobs in this order. */
export const INIT_SCRIPTS: readonly string[] = [
  "echo first >/work/order; mkdir -p /work/part; echo handed over >/work/part/file",
  "[ ! -e /work/main ] && echo second >>/work/order",
];

/** Ends when a new version of what it sees has come. */
export const MAIN_SCRIPT = `
cat /work/order /part/file; touch /work/main
cat /settings/value; echo; cat /settings/sub/other.conf; cat /one-file.conf
stat -c %a /secret/..data/password; cat /secret/password; echo; od -An -tx1 /secret/bytes
cut -d. -f2 /all/token | tr _- /+ | base64 -d 2>/dev/null | grep -o '"sub":"[^"]*"'
cat /all/labels; echo; grep 'db$' /etc/hosts; df /dev/shm | grep -c /dev/shm
echo x >/settings/x || echo readonly
until [ "$(cat /settings/value)" = two ] && grep -q note=\\"new\\" /all/annotations; do sleep 0.2; done
cat /settings/value /all/value; cat /one-file.conf
`;

/** What it writes to stdout for all that. */
export function mainOutput(run: string): string[] {
  return [
    "first",
    "second",
    "handed over",
    "one",
    "x = 1",
    "x = 1",
    "400",
    "it's $ecret",
    " 00 ff 0a",
    `"sub":"system:serviceaccount:default:volumes-${run}"`,
    'app="volumes"',
    "10.9.9.9\tdb",
    "1",
    "readonly",
    // Neither has a newline of its own; and a subPath is never brought up to date (Kubernetes' own rule).
    "twotwox = 1",
  ];
}

const MOUNTS = [
  { name: "work", mountPath: "/work" },
  { name: "work", mountPath: "/part", subPath: "part" },
  { name: "settings", mountPath: "/settings" },
  { name: "plain", mountPath: "/one-file.conf", subPath: "other.conf" },
  { name: "secret", mountPath: "/secret", readOnly: true },
  { name: "all", mountPath: "/all" },
  { name: "memory", mountPath: "/dev/shm" },
];

/** Fields of the Container. */
export const VOLUME_MOUNTS = { volumeMounts: MOUNTS };
/** Those of the init containers. */
export const WORK_MOUNT = { volumeMounts: MOUNTS.slice(0, 1) };

/** Fields of the PodSpec. */
export function volumeFields(
  run: string,
): { volumes: Record<string, unknown>[] } & Record<string, unknown> {
  const name = `volumes-${run}`;
  const configMap = { name };
  return {
    serviceAccountName: name,
    hostAliases: [{ ip: "10.9.9.9", hostnames: ["db"] }],
    volumes: [
      { name: "work", emptyDir: {} },
      { name: "memory", emptyDir: { medium: "Memory" } },
      {
        name: "settings",
        configMap: {
          name,
          items: [{ key: "value", path: "value" }, { key: "other.conf", path: "sub/other.conf" }],
        },
      },
      { name: "plain", configMap },
      { name: "secret", secret: { secretName: name, defaultMode: 0o400 } },
      {
        name: "all",
        projected: {
          sources: [
            { serviceAccountToken: { path: "token", expirationSeconds: 3600 } },
            { configMap: { name, items: [{ key: "value", path: "value" }] } },
            {
              downwardAPI: {
                items: ["labels", "annotations"].map((path) => ({
                  path,
                  fieldRef: { fieldPath: `metadata.${path}` },
                })),
              },
            },
          ],
        },
      },
    ],
  };
}
