/** Compares versions as `6.1.0-13-amd64` and `4.8`: their first two numbers. */
export function isAtLeast(kernel: string, wanted: string): boolean {
  const [major = 0, minor = 0] = kernel.split(/[^0-9]/).map(Number);
  const [wantedMajor = 0, wantedMinor = 0] = wanted.split(/[^0-9]/).map(Number);
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
}
