import { addressOf, type LabSettings } from "./settings.ts";
import type { HostShell } from "./shell.ts";

/** The user of the cluster. The password is for a network that no packet leaves. */
export const LOGIN_USER = { name: "jorge", uid: 1000, password: "lab $ecret" } as const;

/** sshd_config(5) of the login host, besides Debian's own defaults. */
export function sshdConf({ cluster }: Pick<LabSettings, "cluster">): string {
  return [
    "PasswordAuthentication yes",
    "KbdInteractiveAuthentication no",
    "PermitRootLogin no",
    "UseDNS no",
    // A test of wrong passwords must not shut out the tests after it; the old one knows no such penalties.
    ...(cluster === "old" ? [] : ["PerSourcePenalties no"]),
    "PrintMotd no",
    "PrintLastLog no",
    "",
  ].join("\n");
}

/** Makes the user on every host of the cluster, whose /home is one folder. */
export async function makeUser(shells: HostShell[]): Promise<void> {
  const { name, uid, password } = LOGIN_USER;
  for (const shell of shells) {
    await shell.script(`useradd --uid ${uid} --no-create-home --shell /bin/bash ${name}`);
    await shell.runOk(["chpasswd"], { stdin: `${name}:${password}\n` });
  }
  await shells[0]?.script(`
    cp -r /etc/skel /home/${name} && chown -R ${name}: /home/${name} && chmod 700 /home/${name}`);
}

/**
 * Makes new host keys and a new ed25519 key for the user, and starts sshd on port 22.
 *
 * @returns the private key, in OpenSSH's format.
 */
export async function startSshd(ctl: HostShell, settings: LabSettings): Promise<string> {
  const { name } = LOGIN_USER;
  await ctl.write("/etc/ssh/sshd_config.d/lab.conf", sshdConf(settings));
  const privateKey = await ctl.script(`
    mkdir -p /run/sshd
    ssh-keygen -A >/dev/null
    install -d -o ${name} -g ${name} -m 700 /home/${name}/.ssh
    ssh-keygen -q -t ed25519 -N '' -C ${name}@lab -f /root/login-key
    install -o ${name} -g ${name} -m 600 /root/login-key.pub /home/${name}/.ssh/authorized_keys
    cat /root/login-key`);
  await ctl.daemon("sshd", ["/usr/sbin/sshd", "-D", "-e"]);
  await ctl.waitForPort("sshd", addressOf(settings, "ctl"), 22);
  return privateKey;
}
