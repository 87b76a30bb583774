/** What is wrong with a configuration, and where: the caller knows in which file the place stands. */
export interface Fault {
  path: (string | number)[];
  blame: 'key' | 'value';
  message: string;
  /** It works, but hardly as it was meant: told, not refused. */
  isWarning?: true;
  /** A second place that belongs to it, and the words that lead there. */
  other?: { path: (string | number)[]; says: string };
}
