/**
 * Names and numbers of what the kernel refuses with, and the one error class of this folder.
 *
 * The numbers are those of asm-generic/errno{-base,}.h, which x86-64 and arm64 share (mips, sparc and alpha
 * have their own; weft does not run there). Raw calls return `-EAGAIN`; typed things throw a HostError.
 */
import { getSystemErrorMap } from 'node:util';

export const EPERM = 1;
export const ENOENT = 2;
export const ESRCH = 3;
export const EINTR = 4;
export const EIO = 5;
export const ENXIO = 6;
export const E2BIG = 7;
export const EBADF = 9;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EFAULT = 14;
export const EBUSY = 16;
export const EEXIST = 17;
export const ENODEV = 19;
export const ENOTDIR = 20;
export const EISDIR = 21;
export const EINVAL = 22;
export const ENFILE = 23;
export const EMFILE = 24;
export const ENOTTY = 25;
export const EFBIG = 27;
export const ENOSPC = 28;
export const ESPIPE = 29;
export const EROFS = 30;
export const EPIPE = 32;
export const ERANGE = 34;
export const ENAMETOOLONG = 36;
export const ENOSYS = 38;
export const EPROTO = 71;
export const EBADMSG = 74;
export const EOVERFLOW = 75;
export const EMSGSIZE = 90;
export const EOPNOTSUPP = 95;
export const EAFNOSUPPORT = 97;
export const EADDRINUSE = 98;
export const EADDRNOTAVAIL = 99;
export const ENETDOWN = 100;
export const ENETUNREACH = 101;
export const ECONNABORTED = 103;
export const ECONNRESET = 104;
export const ENOBUFS = 105;
export const EISCONN = 106;
export const ENOTCONN = 107;
export const ETIMEDOUT = 110;
export const ECONNREFUSED = 111;
export const EHOSTUNREACH = 113;
export const EALREADY = 114;
export const EINPROGRESS = 115;
export const ECANCELED = 125;
export const EDQUOT = 122;

/** Index is the number. 41 and 58 were never given out. */
const NAMES = (
  'OK EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK ' +
  'EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS ' +
  'EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP ? ENOMSG EIDRM ECHRNG ' +
  'EL2NSYNC EL3HLT EL3RST ELNRNG EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO EBADRQC EBADSLT ? EBFONT ' +
  'ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG EREMOTE ENOLINK EADV ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT ' +
  'EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC ELIBBAD ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ' +
  'ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT ' +
  'EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ' +
  'ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED ' +
  'EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EUCLEAN ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT ' +
  'ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ' +
  'ERFKILL EHWPOISON'
).split(' ');

/** Takes 11 as well as -11, so that the result of a raw call can be passed as it is. */
export function errnoName(errno: number): string {
  const name = NAMES[Math.abs(errno)];
  return name === undefined || name === '?' ? `E${Math.abs(errno)}` : name;
}

/** What libuv says about a number ("address already in use"), or its name when libuv knows none. */
export function errnoText(errno: number): string {
  return getSystemErrorMap().get(-Math.abs(errno))?.[1] ?? errnoName(errno);
}

/**
 * A refusal of the kernel. `code` is the errno's name and stable; `message` says which call, on what (a path,
 * an interface's name), why, and where we know it, what to do about it.
 */
export class HostError extends Error {
  readonly code: string;
  /** Positive, as in errno.h. */
  readonly errno: number;
  readonly syscall: string;

  constructor(syscall: string, errno: number, what = '', advice = '') {
    const on = what === '' ? '' : ` ${what}`;
    const then = advice === '' ? '' : `; ${advice}`;
    super(`${syscall}${on}: ${errnoName(errno)}, ${errnoText(errno)}${then}`);
    this.name = 'HostError';
    this.errno = Math.abs(errno);
    this.code = errnoName(this.errno);
    this.syscall = syscall;
  }
}

/** Passes a raw call's result through, or throws it as a HostError. */
export function check(result: number, syscall: string, what = '', advice = ''): number {
  if (result < 0) throw new HostError(syscall, -result, what, advice);
  return result;
}

/** An error of node:fs told as one of ours, so that callers have to know one class only. */
export function fromNodeError(error: unknown, what: string, advice = ''): HostError {
  if (error instanceof HostError) return error;
  if (error instanceof Error && 'errno' in error && typeof error.errno === 'number') {
    const syscall = 'syscall' in error && typeof error.syscall === 'string' ? error.syscall : 'fs';
    return new HostError(syscall, Math.abs(error.errno), what, advice);
  }
  throw error;
}
