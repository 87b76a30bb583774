/**
 * Where koffi meets libc. Only this file and memory.ts import koffi; nothing outside host/ imports this file.
 *
 * Three decisions that the rest of the folder relies on:
 *
 * - Symbols are looked up in the running process (`load(null)`), not in a file such as libc.so.6, so the same
 *   code works with glibc and musl, whose files have other names.
 * - Signatures use koffi's built-in integer types only. An address is a `uintptr_t`, passed as a JS number
 *   (user space ends below 2^47, a number is exact below 2^53). No named type is ever registered, so each
 *   thread can load this module without meeting koffi's "Duplicate type name". Signed results (`intptr_t`)
 *   make -1 a small integer instead of a BigInt.
 * - `errno` belongs to the thread and is read directly after the call, before JS does anything else.
 *
 * A call runs on the calling JS thread and blocks it: `koffi.async` is not used, as it would occupy the four
 * threads of libuv's pool and hold up the end of the process.
 */
import koffi from 'koffi';
import { EINVAL, EIO, HostError } from './errno.js';

const process_ = koffi.load(null);

type CType = 'int' | 'uint' | 'int64_t' | 'uint64_t' | 'uintptr_t' | 'intptr_t' | 'size_t' | 'ulong' | 'str';

/** A C function of fixed arguments. Throws when this libc lacks it. */
export function bind<F extends (...args: never[]) => unknown>(
  name: string,
  result: 'int' | 'intptr_t' | 'int64_t' | 'uint' | 'void' | 'str',
  args: CType[],
): F {
  return process_.func(name, result, args) as unknown as F;
}

/** As bind, but undefined when this libc lacks it, so that the caller can fall back to `syscall`. */
export function bindIfPresent<F extends (...args: never[]) => unknown>(
  name: string,
  result: 'int' | 'intptr_t' | 'int64_t' | 'uint' | 'str',
  args: CType[],
): F | undefined {
  try {
    return bind<F>(name, result, args);
  } catch {
    return undefined;
  }
}

/**
 * The address of a C function that calls `callback`: on this thread only, inside a call that this thread makes. It lives as
 * long as the process (koffi has room for some thousands), so one is made for a purpose and not for an object.
 */
export function callable(
  result: 'uint' | 'int',
  args: CType[],
  callback: (...args: never[]) => number,
): number {
  return Number(koffi.register(callback, koffi.pointer(koffi.proto(result, args))));
}

/**
 * The negative errno of the call that just failed. EIO when something between the call and here reset it to
 * zero, since a caller would take `-0` for success.
 */
export function negativeErrno(): number {
  const errno = koffi.errno();
  return errno === 0 ? -EIO : -errno;
}

/** `result` of a call that says -1 for failure, told as -errno. */
export function orErrno(result: number): number {
  return result < 0 ? negativeErrno() : result;
}

/**
 * syscall(2) with six machine words.
 *
 * C declares it variadic. It is bound with fixed arguments here, which the calling conventions of x86-64 and
 * arm64 Linux pass in the same registers, and which saves a third of the call; io_uring_enter is hot.
 */
const cSyscall = bind<
  (nr: number, a: number, b: number, c: number, d: number, e: number, f: number) => number
>('syscall', 'intptr_t', [
  'intptr_t',
  'intptr_t',
  'intptr_t',
  'intptr_t',
  'intptr_t',
  'intptr_t',
  'intptr_t',
]);

export function syscall(nr: number, a = 0, b = 0, c = 0, d = 0, e = 0, f = 0): number {
  const result = cSyscall(nr, a, b, c, d, e, f);
  return result < 0 ? negativeErrno() : result;
}

const cIoctl = process_.func('int ioctl(int fd, unsigned long request, ...)') as unknown as (
  fd: number,
  request: number,
  type: string,
  value: number,
) => number;

/** ioctl(2) whose third argument is an address or a plain integer. */
export function ioctl(fd: number, request: number, argument: number): number {
  return orErrno(cIoctl(fd, request, 'uintptr_t', argument));
}

const cOpen = process_.func('int open(str path, int flags, ...)') as unknown as (
  path: string,
  flags: number,
  type: string,
  mode: number,
) => number;

/** open(2): an fd or -errno. */
export function open(path: string, flags: number, mode: number): number {
  return orErrno(cOpen(path, flags, 'uint', mode));
}

/** C strings end at the first zero byte: a name with one inside would silently become another name. */
export function cString(text: string, what: string): string {
  if (text.includes('\0')) throw new HostError(what, EINVAL, JSON.stringify(text), 'it holds a zero byte');
  return text;
}

/** Layouts and syscall numbers are known for these two; both are little-endian and 64-bit. */
export type Architecture = 'x64' | 'arm64';

export function architecture(): Architecture {
  if (process.arch === 'x64' || process.arch === 'arm64') return process.arch;
  throw new Error(`host/: no struct layouts for ${process.arch}; weft runs on x86-64 and arm64`);
}
