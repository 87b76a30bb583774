/** What is wrong with a configuration, and where: the caller knows in which file the place stands. */
export interface Fault {
  path: (string | number)[];
  blame: 'key' | 'value';
  message: string;
}
