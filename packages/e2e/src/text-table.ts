/** Rows under a header of their names: the first column to the left, figures to the right. */
export function formatTable(rows: readonly Record<string, string>[]): string {
  const header = Object.keys(rows[0] ?? {});
  const table = [header, ...rows.map((row) => Object.values(row))];
  const widths = header.map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0)));
  return table
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join("  "),
    )
    .join("\n");
}
