import type { ContainerConfig } from "../../cri/api.generated.ts";
import jobStdio from "./job_stdio.pl" with { type: "text" };
import node from "../steps/node.pl" with { type: "text" };
import terminal from "../steps/terminal.pl" with { type: "text" };

type StdioConfig = Pick<ContainerConfig, "stdin" | "stdinOnce" | "tty">;

/** Whether the container's program can be sent something while it runs. It is decided when its job is submitted. */
export function hasStdio({ stdin, tty }: StdioConfig): boolean {
  return stdin || tty;
}

/** The Perl program by which the job starts a program with stdin or a terminal; `job_stdio.pl` tells how. */
export function stdioProgram({ stdin, stdinOnce, tty }: StdioConfig): string {
  const [hasStdin, once, hasTty] = [stdin, stdinOnce, tty].map(Number);
  const choice = `my ($has_stdin, $stdin_once, $has_tty) = (${hasStdin}, ${once}, ${hasTty});\n`;
  return node + terminal + choice + jobStdio;
}
