import t from 'tap';
import { BpfAssembler, R0, R1, R10, R2, R3, reg } from '../../host/bpfAssembler.js';

const hex = (bytes: Uint8Array): string[] => Buffer.from(bytes).toString('hex').match(/.{16}/g) ?? [];

// Encodings as `llvm-objdump -d` and `bpftool prog dump xlated opcodes` print them.
await t.test('known encodings', async t => {
  const known: [string, (a: BpfAssembler) => unknown, string[]][] = [
    ['r1 = 0', a => a.move(R1, 0), ['b701000000000000']],
    ['r2 = r1', a => a.move(R2, reg(R1)), ['bf12000000000000']],
    ['w0 = -1', a => a.op32('move', R0, -1), ['b4000000ffffffff']],
    ['r2 += -16', a => a.op('add', R2, -16), ['07020000f0ffffff']],
    ['w1 &= 0xfff', a => a.op32('and', R1, 0xfff), ['54010000ff0f0000']],
    ['r1 <<= 32', a => a.op('shiftLeft', R1, 32), ['6701000020000000']],
    ['r3 |= r1', a => a.op('or', R3, reg(R1)), ['4f13000000000000']],
    ['r1 = be16 r1', a => a.toBigEndian(R1, 16), ['dc01000010000000']],
    ['r1 = *(u32 *)(r1 + 76)', a => a.load(4, R1, R1, 76), ['61114c0000000000']],
    ['r1 = *(u16 *)(r2 + 12)', a => a.load(2, R1, R2, 12), ['69210c0000000000']],
    ['r1 = *(u8 *)(r2 + 0)', a => a.load(1, R1, R2, 0), ['7121000000000000']],
    ['r1 = *(u64 *)(r10 - 8)', a => a.load(8, R1, R10, -8), ['79a1f8ff00000000']],
    ['*(u32 *)(r10 - 4) = r1', a => a.store(4, R10, -4, reg(R1)), ['631afcff00000000']],
    ['*(u64 *)(r10 - 8) = 7', a => a.store(8, R10, -8, 7), ['7a0af8ff07000000']],
    ['lock *(u64 *)(r0 + 8) += r1', a => a.atomicAdd(8, R0, 8, R1), ['db10080000000000']],
    ['call 23', a => a.call(23), ['8500000017000000']],
    ['exit', a => a.exit(), ['9500000000000000']],
    ['r1 = map[fd:5]', a => a.loadMap(R1, 5), ['1811000005000000', '0000000000000000']],
    ['r1 = map[fd:5][0]+8', a => a.loadMapValue(R1, 5, 8), ['1821000005000000', '0000000008000000']],
    [
      'r1 = 0x1122334455667788 ll',
      a => a.move64(R1, 0x1122334455667788n),
      ['1801000088776655', '0000000044332211'],
    ],
    ['r1 = -1 ll', a => a.move64(R1, -1n), ['18010000ffffffff', '00000000ffffffff']],
  ];
  for (const [text, write, bytes] of known) {
    const assembler = new BpfAssembler();
    write(assembler);
    t.same(hex(assembler.finish()), bytes, text);
  }
});

await t.test('labels before and behind, over wide instructions', async t => {
  const bytes = new BpfAssembler()
    .label('again')
    .jumpIf(R0, '==', 0, 'end')
    .move64(R1, 1n)
    .jumpIf32(R1, 'signed<', reg(R2), 'again')
    .jump('end')
    .label('end')
    .exit()
    .finish();
  t.same(hex(bytes), [
    '1500040000000000',
    '1801000001000000',
    '0000000000000000',
    'ce21fcff00000000',
    '0500000000000000',
    '9500000000000000',
  ]);
});

await t.test('what cannot be encoded', async t => {
  t.throws(() => new BpfAssembler().jump('nowhere').finish(), { message: 'no label nowhere' });
  t.throws(() => new BpfAssembler().label('x').label('x'), { message: /twice/ });
  t.throws(() => new BpfAssembler().load(8, R1, R1, 40_000), RangeError);
  t.throws(() => new BpfAssembler().move(R1, 2 ** 32), RangeError);
  const far = new BpfAssembler().jump('end');
  for (let i = 0; i < 0x8000; i++) far.move(R0, 0);
  t.throws(() => far.label('end').finish(), { message: /too far/ });
});
