/** A place of the cluster that the container sees. */
export interface Bind {
  /** Absolute on the cluster: a file or a directory. */
  source: string;
  /** Absolute in the container. */
  destination: string;
  readonly: boolean;
}

/**
 * The arguments of apptainer-exec(1) for a bind. `--bind` cuts its value at colons and commas and knows no way to
 * quote them; `--mount` takes fields of CSV (RFC 4180), in which every byte but NUL and a carriage return stands for
 * itself.
 */
export function bindArguments({ source, destination, readonly }: Bind): string[] {
  const fields = [
    "type=bind",
    quoteField(`source=${source}`),
    quoteField(`destination=${destination}`),
    ...(readonly ? ["ro"] : []),
  ];
  return ["--mount", fields.join(",")];
}

function quoteField(text: string): string {
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
