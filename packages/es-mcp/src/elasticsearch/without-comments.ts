/**
 * The JSON text without comments. Elasticsearch takes documents that hold some, and gives them back as they came. Not by
 * one expression for all tokens: that overflows its stack in a string of some megabytes, and goes over an unclosed one
 * again and again.
 */
export function withoutComments(text: string): string {
  const begins = /["/]/g;
  let kept = "";
  let from = 0;
  for (let found = begins.exec(text); found !== null; found = begins.exec(text)) {
    const at = found.index;
    const end = found[0] === '"' ? stringEnd(text, at) : commentEnd(text, at);
    // Neither: what cannot be JSON is the parser's to refuse.
    if (end < 0) break;
    if (found[0] === "/" && end > at + 1) {
      kept += `${text.slice(from, at)} `;
      from = end;
    }
    begins.lastIndex = end;
  }
  return kept + text.slice(from);
}

/** Position after the string that begins at `start`; -1 where it does not end. */
function stringEnd(text: string, start: number): number {
  const marks = /["\\]/g;
  marks.lastIndex = start + 1;
  for (let found = marks.exec(text); found !== null; found = marks.exec(text)) {
    if (found[0] === '"') return marks.lastIndex;
    marks.lastIndex++;
  }
  return -1;
}

/** Position after the comment that begins at `start`, or after the slash where none does; -1 where it does not end. */
function commentEnd(text: string, start: number): number {
  if (text[start + 1] === "*") {
    const end = text.indexOf("*/", start + 2);
    return end < 0 ? -1 : end + 2;
  }
  if (text[start + 1] !== "/") return start + 1;
  const line = /[\r\n]/g;
  line.lastIndex = start;
  return line.exec(text)?.index ?? text.length;
}
