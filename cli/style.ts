/** Colours, when they are wanted: on a terminal, without NO_COLOR (no-color.org), not on a dumb one. */
type Paint = (text: string) => string;

export interface Style {
  bold: Paint;
  dim: Paint;
  red: Paint;
  green: Paint;
  yellow: Paint;
  cyan: Paint;
}

const codes = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;

function paint(code: number): Paint {
  return text => (text === '' ? '' : `\u001b[${code}m${text}\u001b[0m`);
}

const plain = (text: string) => text;

export const PLAIN: Style = { bold: plain, dim: plain, red: plain, green: plain, yellow: plain, cyan: plain };

const COLOURED: Style = {
  bold: paint(codes.bold),
  dim: paint(codes.dim),
  red: paint(codes.red),
  green: paint(codes.green),
  yellow: paint(codes.yellow),
  cyan: paint(codes.cyan),
};

export function styleFor(isTerminal: boolean, env: Readonly<Record<string, string | undefined>>): Style {
  const refused = env['NO_COLOR'] !== undefined && env['NO_COLOR'] !== '';
  return isTerminal && !refused && env['TERM'] !== 'dumb' ? COLOURED : PLAIN;
}
