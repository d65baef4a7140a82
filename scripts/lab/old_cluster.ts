import { basename } from "@std/path";
import { runOk } from "./process.ts";
import type { RootRecipe } from "./root.ts";

/** Copying 100 MB and a few runs of patchelf, on a busy machine. */
const FINISH_TIMEOUT_MS = 120_000;

/**
 * Brings the Apptainer of a newer root ($2) into an older one ($1), with the libraries that it was built for: the
 * programs name these and their loader themselves.
 */
const BRING_APPTAINER = `
library=usr/lib/$(uname -m)-linux-gnu
own=usr/lib/newer
mkdir "$1/$own"
cp -a "$2/usr/bin/apptainer" "$2/usr/bin/singularity" "$1/usr/bin/"
cp -a "$2/$library/apptainer" "$1/$library/"
cp -a "$2/etc/apptainer" "$1/etc/"
cp -a "$2/var/lib/apptainer" "$1/var/lib/"
loader=$(chroot "$1" patchelf --print-interpreter /usr/bin/apptainer)
for name in "\${loader##*/}" libc.so.6 libm.so.6 libseccomp.so.2 libsqlite3.so.0; do
  cp -L "$2/$library/$name" "$1/$own/"
done
for program in usr/bin/apptainer "$library/apptainer/bin/starter"; do
  chroot "$1" patchelf --set-interpreter "/$own/\${loader##*/}" --force-rpath --set-rpath "/$own" "/$program"
done
chroot "$1" apptainer --version
# Slurm asks for it by a name that only the package for developers has.
ln -s libpmix.so.2 "$1/$library/pmix2/lib/libpmix.so"
`;

/** What the hosts of a cluster with Slurm 22.05 run: Debian 12, which has no Apptainer of its own. */
export function oldClusterRoot(labRoot: string): RootRecipe {
  return {
    name: "bookworm",
    suite: "bookworm",
    packages: [
      ...["ca-certificates", "procps", "iproute2", "tini", "patchelf"],
      ...["slurmctld", "slurmd", "slurm-client", "munge", "openssh-server", "openssh-client"],
      ...["squashfuse", "squashfs-tools", "libpmix2", "openmpi-bin", "environment-modules"],
    ],
    finish: {
      origin: `1 ${basename(labRoot)}`,
      run: async (root) => {
        const options = { timeoutMs: FINISH_TIMEOUT_MS };
        await runOk(["sh", "-euc", BRING_APPTAINER, "sh", root, labRoot], options);
      },
    },
  };
}
