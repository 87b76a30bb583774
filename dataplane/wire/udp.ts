/** The UDP header (RFC 768): 0 source port | 2 destination port | 4 length | 6 checksum (0: none). */
export const SOURCE_PORT = 0;
export const DESTINATION_PORT = 2;
export const UDP_LENGTH = 4;
export const CHECKSUM = 6;
export const LENGTH = 8;

export interface Header {
  sourcePort: number;
  destinationPort: number;
  length: number;
  checksum: number;
}

export function check(view: DataView, at: number, end: number): boolean {
  if (end - at < LENGTH) return false;
  const length_bytes = view.getUint16(at + UDP_LENGTH);
  return length_bytes >= LENGTH && length_bytes <= end - at;
}

export function parse(view: DataView, at: number, out: Header): void {
  out.sourcePort = view.getUint16(at + SOURCE_PORT);
  out.destinationPort = view.getUint16(at + DESTINATION_PORT);
  out.length = view.getUint16(at + UDP_LENGTH);
  out.checksum = view.getUint16(at + CHECKSUM);
}

export function emit(view: DataView, at: number, header: Header): number {
  view.setUint16(at + SOURCE_PORT, header.sourcePort);
  view.setUint16(at + DESTINATION_PORT, header.destinationPort);
  view.setUint16(at + UDP_LENGTH, header.length);
  view.setUint16(at + CHECKSUM, header.checksum);
  return LENGTH;
}
