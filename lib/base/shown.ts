/** So much of a value tells which one it is; what is said of it stands behind. */
const MAX_SHOWN_CHARACTERS = 120;

/** A client's text as it can stand in a sentence: quoted, on one line, and not longer than a sentence. */
export function shown(text: string): string {
  const characters = [...text.slice(0, MAX_SHOWN_CHARACTERS * 2)];
  const isWhole = characters.length <= MAX_SHOWN_CHARACTERS &&
    text.length <= MAX_SHOWN_CHARACTERS * 2;
  return isWhole
    ? JSON.stringify(text)
    : `${JSON.stringify(characters.slice(0, MAX_SHOWN_CHARACTERS).join(""))}…`;
}
