/** What can go wrong with images. The code is stable, the message is for people and says what to do. */

export type ImageErrorCode =
  /** A file that the spec names is not there, or cannot be read. */
  | 'IMAGE_FILE'
  /** The file is not of a format that we take, or names other files. */
  | 'IMAGE_FORMAT'
  /** It must be built first. */
  | 'IMAGE_NOT_READY'
  /** This machine cannot build it: programs or packages are missing. */
  | 'IMAGE_CANNOT_BUILD'
  /** A package could not be fetched. */
  | 'IMAGE_DOWNLOAD'
  /** A step of the build failed. */
  | 'IMAGE_BUILD'
  /** The copy into a volume failed. */
  | 'IMAGE_FILL'
  /** Whoever asked for it has called it off. */
  | 'IMAGE_ABORTED';

export class ImageError extends Error {
  override readonly name = 'ImageError';
  readonly code: ImageErrorCode;
  constructor(code: ImageErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
