/** A program that tries what it is told, one `verb:subject` an argument, and prints which were permitted. */
const TRIES: Record<string, (subject: string) => unknown> = {
  read: (path) => Deno.statSync(path),
  write: (path) => Deno.writeTextFileSync(path, ""),
  run: (program) => new Deno.Command(program, { args: ["--version"], stdout: "null" }).outputSync(),
  env: (name) => Deno.env.get(name),
  net: (address) => Deno.permissions.querySync({ name: "net", host: address }).state,
  sys: () => Deno.hostname(),
  ffi: (path) => Deno.dlopen(path, {}),
};

const permitted = Deno.args.filter((argument) => {
  const at = argument.indexOf(":");
  try {
    const outcome = TRIES[argument.slice(0, at)]?.(argument.slice(at + 1));
    return outcome !== "prompt" && outcome !== "denied";
  } catch (error) {
    // Whatever else goes wrong went wrong with permission.
    return !(error instanceof Deno.errors.NotCapable);
  }
});
await Deno.stdout.write(new TextEncoder().encode(JSON.stringify(permitted)));
