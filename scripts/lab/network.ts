import { run, runOk } from "./process.ts";
import type { ProcessId } from "./process.ts";

/** A host's place in the network. */
export interface Leg {
  init: ProcessId;
  address: string;
}

/** The switch is a bridge in the registry's own network namespace, where no firewall of the machine reaches. */
const BRIDGE = "br0";

/**
 * Joins all hosts: a bridge in the first one, whose address it carries, a veth pair from it to each other
 * host (there named eth0), and one to the machine, where the interface is named `machineInterface`.
 * There is no route to anywhere else, so no packet leaves the lab.
 */
export async function connect(
  hub: Leg,
  others: Leg[],
  machine: { interface: string; address: string },
): Promise<void> {
  await batch(hub.init, [
    "link set lo up",
    `link add ${BRIDGE} type bridge forward_delay 0`,
    `addr add ${hub.address}/24 dev ${BRIDGE}`,
    `link set ${BRIDGE} up`,
  ]);
  const legs = [
    ...others.map(({ init }) => `eth0 netns ${init.pid}`),
    `${machine.interface} netns ${Deno.pid}`,
  ];
  await batch(
    hub.init,
    legs.flatMap((peer, index) => [
      `link add leg${index} type veth peer name ${peer}`,
      `link set leg${index} master ${BRIDGE}`,
      `link set leg${index} up`,
    ]),
  );
  for (const { init, address } of others) {
    await batch(init, ["link set lo up", `addr add ${address}/24 dev eth0`, "link set eth0 up"]);
  }
  await runOk(["ip", "-batch", "-"], {
    stdin: [
      `addr add ${machine.address}/24 dev ${machine.interface}`,
      `link set ${machine.interface} up`,
      "",
    ].join("\n"),
  });
}

/** Runs ip(8) commands in the network namespace of a process. */
async function batch(id: ProcessId, commands: string[]): Promise<void> {
  await runOk(["nsenter", `--target=${id.pid}`, "--net", "ip", "-batch", "-"], {
    stdin: commands.join("\n") + "\n",
  });
}

/** Removes the machine's interface to a lab. The hosts' own interfaces go with their namespaces. */
export async function disconnect(machineInterface: string): Promise<void> {
  const there = await run(["ip", "link", "show", "dev", machineInterface]);
  if (there.code === 0) await runOk(["ip", "link", "delete", "dev", machineInterface]);
}

/**
 * Checks that no other interface of the machine has an address in the lab's subnet, which would take the
 * lab's packets.
 *
 * @throws {Error} when one has.
 */
export async function checkSubnetIsFree(subnet: string): Promise<void> {
  const addresses = await runOk(["ip", "-oneline", "-4", "addr", "show"]);
  const taken = addresses.split("\n").find((line) => line.includes(` inet ${subnet}.`));
  if (taken !== undefined) {
    throw new Error(
      `Cannot use ${subnet}.0/24 for the lab, as it must be unused on this machine: it is on ` +
        `${taken.trim().split(/\s+/)[1]}. Set MULTICRI_LAB_SUBNET to another, such as 10.78.0.`,
    );
  }
}
