/**
 * How many columns of a terminal a text takes. Good enough for tables: CJK and emoji take two, combining
 * marks none. Grapheme clusters come from Intl.Segmenter, so that a family of four is one emoji.
 */
const segmenter = new Intl.Segmenter(undefined, { granularity: 'grapheme' });

/** First and last code point of the wide ranges (Unicode East Asian Width W and F, blocks rounded). */
const WIDE: readonly (readonly [number, number])[] = [
  [0x1100, 0x115f],
  [0x2e80, 0x303e],
  [0x3041, 0x33ff],
  [0x3400, 0x4dbf],
  [0x4e00, 0x9fff],
  [0xa000, 0xa4cf],
  [0xa960, 0xa97c],
  [0xac00, 0xd7a3],
  [0xf900, 0xfaff],
  [0xfe30, 0xfe6f],
  [0xff01, 0xff60],
  [0xffe0, 0xffe6],
  [0x17000, 0x18cff],
  [0x1f200, 0x1f2ff],
  [0x20000, 0x3fffd],
];

const ZERO = /^[\p{Mark}\p{Cc}\p{Cf}]+$/u;
const EMOJI = /\p{Emoji_Presentation}|\p{Emoji}\u{fe0f}/u;
// oxlint-disable-next-line no-control-regex -- printable ASCII is the case that must be quick
const ASCII = /^[\x20-\x7e]*$/;
// oxlint-disable-next-line no-control-regex -- control characters are the subject here
const CONTROL = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;

export function displayWidth(text: string): number {
  if (ASCII.test(text)) return text.length;
  let columns = 0;
  for (const { segment } of segmenter.segment(text)) columns += clusterWidth(segment);
  return columns;
}

function clusterWidth(cluster: string): number {
  if (ZERO.test(cluster)) return 0;
  if (EMOJI.test(cluster)) return 2;
  const code = cluster.codePointAt(0) ?? 0;
  return WIDE.some(([first, last]) => code >= first && code <= last) ? 2 : 1;
}

export function padEnd(text: string, columns: number): string {
  return text + ' '.repeat(Math.max(0, columns - displayWidth(text)));
}

/** At most so many columns, with an ellipsis where something was cut. */
export function truncate(text: string, columns: number): string {
  if (displayWidth(text) <= columns) return text;
  let kept = '';
  let used = 0;
  for (const { segment } of segmenter.segment(text)) {
    const width = clusterWidth(segment);
    if (used + width > columns - 1) break;
    kept += segment;
    used += width;
  }
  return columns < 1 ? '' : `${kept}…`;
}

/** Text of others (names, messages, a guest's words) must not move the cursor or set colours: bytes become visible. */
export function harmless(text: string): string {
  return text.replace(CONTROL, char => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
}
