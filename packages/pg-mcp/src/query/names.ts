const nameBytesMax = 63;

/** What PostgreSQL takes for a name, as written, in small letters and cut to the length of a name. */
export function namesIn(sql: string): string[] {
  const names = new Set<string>();
  const add = (name: string): void => {
    for (const form of [name, name.replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase())]) {
      names.add(form);
      const bytes = Buffer.from(form);
      if (bytes.length > nameBytesMax)
        names.add(
          bytes
            .subarray(0, nameBytesMax)
            .toString("utf8")
            .replace(/\uFFFD+$/, ""),
        );
    }
  };
  for (const [word] of sql.matchAll(/[A-Za-z_\u0080-\u{10ffff}][\w$\u0080-\u{10ffff}]*/gu)) add(word);
  for (const [, quoted = ""] of sql.matchAll(/"((?:[^"]|"")+)"/g)) add(quoted.replaceAll('""', '"'));
  return [...names];
}
