import assert from 'node:assert';
import * as pcapng from '../../../dataplane/wire/pcapng.js';
import { bytesOf } from '../harness.js';
import type { Target } from '../harness.js';

function recording(): Uint8Array {
  const bytes = new Uint8Array(1024);
  const view = new DataView(bytes.buffer);
  let at = pcapng.emitSectionHeader(view, 0);
  at += pcapng.emitInterfaceDescription(view, at, bytesOf('nic0'), 1500);
  for (const length of [60, 61, 200])
    at += pcapng.emitEnhancedPacket(view, at, 0, 1_700_000_000_000_000, length, 1500, pcapng.DIRECTION_IN);
  at += pcapng.emitInterfaceStatistics(view, at, 0, 1_700_000_000_000_001, 3);
  return bytes.slice(0, at);
}

export const target: Target = {
  says: 'recordings: blocks follow each other inside the file, and the walk ends',
  samples: [recording()],
  run(input) {
    const view = new DataView(input.buffer, input.byteOffset, input.length);
    const block: pcapng.Block = {
      type: 0,
      length: 0,
      interfaceId: 0,
      time_us: 0,
      captured_bytes: 0,
      original_bytes: 0,
      direction: 0,
    };
    for (let at = 0; ; at += block.length) {
      pcapng.parse(view, at, input.length, block);
      if (block.length === 0) break;
      assert(block.length >= 12 && at + block.length <= input.length);
      if (block.type === pcapng.ENHANCED_PACKET)
        assert(pcapng.ENHANCED_PACKET_DATA + block.captured_bytes + 4 <= block.length);
    }
  },
};
