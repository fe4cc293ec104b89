/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What the tap program and user space agree on: the event, the words that both
 * sides read and write, and the results that packets are counted by. layout_test.go
 * compares each struct here with its Go twin.
 */
#ifndef SHADOWTAP_TAP_H
#define SHADOWTAP_TAP_H

/*
 * The result of a packet. Each packet has exactly one; the order is that of
 * the Go type Result. From TAP_CAPTURED on the packet was selected.
 */
enum tap_result {
	TAP_NOT_TCP,	     /* not IP, or IP with another protocol */
	TAP_OTHER_PORT,	     /* neither port is selected */
	TAP_OTHER_DIRECTION, /* selected port, but the other hook looks for this side */
	TAP_FRAGMENT,	     /* a part of a fragmented datagram */
	TAP_UNPARSABLE,	     /* lengths that contradict each other, too many tags or headers */
	TAP_CAPTURED,	     /* all of it is in the ring */
	TAP_NO_PAYLOAD,	     /* nothing in it but an acknowledgement */
	TAP_OWN_REPLAY,	     /* one end is a socket of the agent's own replays */
	TAP_NOT_WANTED,	     /* the agent said that it does not want these bytes */
	TAP_RING_FULL,	     /* the ring had no room for all of it */
	TAP_COPY_FAILED,     /* the kernel did not hand out the bytes */
	TAP_NO_READER,	     /* the ring's reader has not beaten for TAP_BEAT_MAX_NS */
	TAP_OVER_BUDGET,     /* the copy budget is spent */
	TAP_RESULTS,
};

/* A reader whose beat is older than this is taken for gone. */
#define TAP_BEAT_MAX_NS 1000000000LL

/* Which packets of a selected port a hook looks for: bits. */
#define TAP_REQUESTS  1 /* the destination port is selected */
#define TAP_RESPONSES 2 /* the source port is selected */

/* tap_event.side; TAP_REQUESTS and TAP_RESPONSES are the same bits. */
#define TAP_SIDE_UNKNOWN   0 /* both ports are selected */
#define TAP_SIDE_TO_SERVER 1
#define TAP_SIDE_TO_CLIENT 2

/* tap_event.vlan: number of tags in the bytes, and a bit for one in the skb. */
#define TAP_VLAN_METADATA 0x80

/*
 * One ring record: this header, then len bytes of TCP payload. The record may
 * be longer than that; the rest is not written. A packet too long for one
 * record comes as several, in order, each with the packet's own header fields
 * and its own offset and len.
 */
struct tap_event {
	__u64 time;   /* CLOCK_MONOTONIC, ns */
	__u64 lost;   /* tap_control.lost of the ring when the record was made */
	__u8 src[16]; /* IPv6, or IPv4-mapped */
	__u8 dst[16];
	__u32 seq;	/* of the packet, not moved by offset; host order */
	__u32 ack;	/* host order */
	__u16 src_port; /* host order */
	__u16 dst_port; /* host order */
	__u16 tap;
	__u16 domain;
	__u32 offset; /* of this piece in the packet's payload, bytes */
	__u32 len;    /* of this piece, bytes */
	__u32 total;  /* of the packet's payload, bytes */
	__u8 flags;   /* TCP flags, RFC 9293 section 3.1, as on the wire */
	__u8 side;
	__u8 vlan;
	__u8 rest; /* 1: what stands behind the piece has passed and was not wanted (tap_forecast) */
};

/* tap_control.wake */
#define TAP_WAKE_NEVER 0 /* the reader reads */
#define TAP_WAKE_MARK  1 /* wake it when the ring is filled to ring_mark */
#define TAP_WAKE_FIRST 2 /* wake it for the next record */

/* The words of one ring. The two halves are cache lines of their own: user space writes the
 * first one, the program the second; but the program sets wake back to TAP_WAKE_NEVER. */
struct tap_control {
	__u64 beat; /* CLOCK_MONOTONIC, ns; 0 = never */
	__u32 wake;
	__u32 hole_open; /* not 0: pass pure acknowledgements too */
	__u64 pad0[6];
	__u64 lost; /* selected segments with payload, SYN, FIN or RST that were not copied */
	__u64 pad1[7];
};

/*
 * What nobody wants of one direction of a flow. User space writes all of a slot
 * but run, state last, and run once before that. The program looks into the slot of
 * the stream's hash alone, so what it does not find there is copied.
 */
struct tap_skip {
	__u32 state; /* 0: nothing; else one of TAP_SKIP_RANGE, TAP_SKIP_REST, and the turn << TAP_SKIP_TURN */
	__u32 from;  /* of the range: sequence number of the first byte */
	__u32 len;   /* of the range, bytes, at most TAP_SKIP_MAX */
	__u32 ack;   /* of the range: what each of its segments acknowledges */
	__u64 run;   /* what was skipped: TAP_RUN_* */
	__u8 src[16]; /* IPv6, or IPv4-mapped */
	__u8 dst[16];
	__u16 src_port; /* host order */
	__u16 dst_port; /* host order */
	__u16 domain;
	__u16 pad;
};

#define TAP_SKIPS      8192 /* slots; a power of two */
#define TAP_SKIP_MAX   (1 << 28)
#define TAP_SKIP_RANGE 1 /* the range, as long as its segments come in order */
#define TAP_SKIP_REST  2 /* everything up to a SYN */
#define TAP_SKIP_TURN  8 /* state: the turn of the slot's use, 4 bits, is from this bit on */

/*
 * tap_skip.run, in one word so that it is always true of one moment: two offsets in
 * the range, of the first byte that was skipped and of the byte behind the last;
 * all between them have passed. Of the rest of a stream it is the sequence number
 * behind the last segment, 32 bits.
 */
#define TAP_RUN_BITS  29 /* of an offset; that of the end is the low one */
#define TAP_RUN_BEGUN (1ULL << 58)
#define TAP_RUN_OVER  (1ULL << 59) /* nothing more is skipped */
#define TAP_RUN_TURN  60	   /* the turn is from this bit on; of another one run says nothing */

/*
 * What is known of answers that have not begun: which of them nobody wants, and how
 * their heads look, so that the program finds the length of a body without reading the
 * head. User space writes all but the last four, state first as TAP_FORECAST_BUSY and
 * last as a number that it did not have before. Where anything is not as it says, the
 * segment is copied.
 *
 * The program tells requests apart by what the answers acknowledge: where
 * one asks when it has the answer before, the next request begins at what that
 * answer acknowledged.
 */
struct tap_forecast {
	__u32 state;
	__u32 owner;	/* changes with the stream */
	__u32 start;	/* sequence number at which the request of bit 0 begins */
	__u32 step;	/* from one request to the next, bytes; 0: there is bit 0 alone */
	__u64 unwanted; /* bit k: nobody wants the answer to the request at start + k * step */
	__u8 first[16]; /* what a head begins with */
	__u8 before[16]; /* what stands before the digits of its Content-Length */
	__u32 head;	/* length of the head, bytes, at most TAP_FORECAST_HEAD */
	__u32 digits;	/* offset of those digits, bytes, at least 16 */
	__u8 src[16];	/* of the answers; IPv6, or IPv4-mapped */
	__u8 dst[16];
	__u16 src_port; /* host order */
	__u16 dst_port; /* host order */
	__u16 domain;
	__u16 pad;
	__u32 of;   /* the owner whose answers the next three are of */
	__u32 ack;  /* what the last answer acknowledges */
	__u32 next; /* sequence number of the next byte that nobody wants */
	__u32 left; /* how many of them there are, bytes */
};

#define TAP_FORECASTS	  8192 /* slots; a power of two */
#define TAP_FORECAST_BUSY 0xffffffff
#define TAP_FORECAST_HEAD 1024

/* What all taps share: user space writes all but budget_spent. */
struct tap_settings {
	__u64 ports[1024];     /* a bit for each selected port */
	__u64 own_ports[1024]; /* a bit for each port that is in the own-replay map */
	__u64 budget_cost;     /* ns per byte, shifted left by TAP_BUDGET_SHIFT; 0 = no limit */
	__u64 budget_burst;    /* ns of unused budget that are kept */
	__u64 budget_lease;    /* bytes that a CPU takes ahead */
	__u64 pad0[5];
	__u64 budget_spent; /* the time, CLOCK_MONOTONIC ns, up to which the budget is spent */
	__u64 pad1[7];
};

#define TAP_BUDGET_SHIFT 20

/* What each CPU has for itself. */
struct tap_cpu {
	__u64 packets[TAP_RESULTS];
	__u64 lease; /* bytes of the copy budget taken ahead and not yet used */
};

/* The key of the own-replay map. */
struct tap_endpoint {
	__u8 addr[16]; /* IPv6, or IPv4-mapped */
	__u16 port;    /* host order */
	__u16 pad;
};

#endif
