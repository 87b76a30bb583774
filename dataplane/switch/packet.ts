/**
 * The frame that a switch is deciding about. There is one Packet to a switch, filled anew for each frame, so that
 * stages can be handed "the frame" without anything being allocated. All fields are small integers.
 *
 * The first group is set before any stage runs; the second from `classify` on; the third by `parse` (headers.ts), which a stage
 * calls when it needs to look beyond the Ethernet header, and which costs nothing the second time.
 */
export class Packet {
  view: DataView;
  /** Number in the FrameTable of the turn. */
  frame = 0;
  at = 0;
  length_bytes = 0;
  /** What is still to be done to it: see wire/virtioNet.ts. */
  w0 = 0;
  w1 = 0;
  w2 = 0;
  /** The switch's number of the port it came in by (Link.sinkIndex; of an aggregate, that of the aggregate). */
  port = 0;
  now_ms = 0;

  /** VLAN it belongs to. */
  vlan = 0;
  /** 802.1p priority of its tag, else of its port. */
  priority = 0;
  /** A rule changed VLAN or priority: what egress ports do to the tag must be found anew. */
  isRetagged = false;
  /** Bits of the mirror sessions (their places in the configuration) that a rule wants a copy for. */
  mirrors = 0;

  isParsed = false;
  /** Type behind all tags, and where what it names begins. */
  etherType = 0;
  l3At = 0;
  /** 4, 6, or 0 for neither (or a header that is cut short). */
  ipVersion = 0;
  protocol = 0;
  /** It is one of several. */
  isFragment = false;
  /** First fragment or none: then, and only then, l4At and the ports count. */
  isFirstFragment = true;
  /** Where the transport header begins; 0 when there is none that could be read. */
  l4At = 0;
  /** TCP, UDP, SCTP, DCCP, UDP-Lite; 0 for all others. */
  sourcePort = 0;
  destinationPort = 0;
  dscp = 0;
  /** Where the IP packet ends by its own word, at most the frame's end; of other frames: the frame's end. */
  end = 0;
  /** Headers cut short, contradictory, or built to hide what they carry: not to be let through by who filters by them. */
  isMalformed = false;

  /** Bits of the mirror sessions that have had it; 0 for each new frame. */
  mirrored = 0;

  /**
   * Somebody asks what would become of it (SwitchApp.trace): nothing is counted, learned, told, or taken from a rate. The
   * frame itself may be changed, it is nobody else's.
   */
  isTrial = false;

  /**
   * False once a stage decided by more than port, addresses and VLAN, or wants to see every frame: then the
   * kernel cannot repeat the decision, and the flow is not offloaded.
   */
  isLayer2Decision = true;

  constructor(view: DataView) {
    this.view = view;
  }
}
