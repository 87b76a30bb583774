/** The table writer: columns as wide as their widest cell, two blanks between, nothing after the last. */
import { displayWidth, harmless, padEnd } from './width.js';
import { PLAIN, type Style } from './style.js';

export interface Cell {
  text: string;
  /** Applied after padding is known, so that colours do not count as columns. */
  paint?: (text: string) => string;
}

export type Row = readonly (string | Cell)[];

const GAP = 2;

export function formatTable(
  headers: readonly string[],
  rows: readonly Row[],
  style: Style = PLAIN,
): string[] {
  const cells = rows.map(row => row.map(toCell));
  const widths = headers.map((header, column) =>
    Math.max(displayWidth(header), ...cells.map(row => displayWidth(row[column]?.text ?? ''))),
  );
  const line = (row: readonly Cell[]) =>
    headers
      .map((_, column) => {
        const cell = row[column] ?? { text: '' };
        const shown = cell.paint === undefined ? cell.text : cell.paint(cell.text);
        if (column === headers.length - 1) return shown;
        return shown + ' '.repeat(widths[column]! + GAP - displayWidth(cell.text));
      })
      .join('')
      .trimEnd();
  return [line(headers.map(text => ({ text, paint: style.bold }))), ...cells.map(line)];
}

/** `Name:   value` lines with the values in one column. */
export function formatFields(fields: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(0, ...fields.map(([name]) => displayWidth(name))) + 1 + GAP;
  return fields.flatMap(([name, value]) =>
    value
      .split('\n')
      .map((line, index) => (padEnd(index === 0 ? `${name}:` : '', width) + harmless(line)).trimEnd()),
  );
}

function toCell(value: string | Cell): Cell {
  const cell = typeof value === 'string' ? { text: value } : value;
  // A line break in a cell would break the table; what follows it is said by describe.
  const text = harmless(cell.text.split('\n', 1)[0] ?? '').replaceAll('\t', ' ');
  return { ...cell, text };
}
