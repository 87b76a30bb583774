/**
 * A station that listens to a group, by the kernel's own IGMP or MLD: `node member.js IFNAME LOCAL GROUP PORT`. Prints
 * `joined`, then what comes, a line each; the end of its input is a leave (of the socket, which the kernel tells).
 */
import { createSocket } from 'node:dgram';

const [ifname = '', local = '', group = '', port = ''] = process.argv.slice(2);
const isV6 = group.includes(':');
const socket = createSocket({ type: isV6 ? 'udp6' : 'udp4', reuseAddr: true });
socket.on('message', message => process.stdout.write(`${message.toString('latin1')}\n`));
socket.bind(Number(port), () => {
  socket.addMembership(group, isV6 ? `::%${ifname}` : local);
  process.stdout.write('joined\n');
});
process.stdin.resume();
process.stdin.on('end', () => {
  socket.dropMembership(group, isV6 ? `::%${ifname}` : local);
  socket.close();
});
