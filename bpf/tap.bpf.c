//go:build ignore

/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The tap: copies the TCP segments of selected ports into ring buffers.
 *
 * The reference path comes first: the verdict is TCX_NEXT whatever happens,
 * nothing is written to the packet, its data is never pulled or moved, and what
 * cannot be parsed is counted, not guessed.
 *
 * Oldest kernel: 5.10. So no bpf_loop, no atomics that return a value, no
 * variable offsets into the stack.
 *
 * Without CAP_PERFMON the verifier lets no variable be added to a packet pointer,
 * lets nothing be read from the stack that was not written, not even where a
 * processor only guesses, and until 6.8 refuses a second store of 4 bytes into
 * a slot of 8 that holds a number it knows a bound of. So variables that are
 * kept over calls have 64 bits, and fields of the event on the stack are written once.
 */
#include "kernel.h"
#include "tap.h"

/* The program calls only GPL-compatible helpers; see SPDX above. */
char LICENSE[] SEC("license") = "GPL";

/*
 * A record's size must be a constant and cannot shrink later, so the records
 * come in classes, by the payload that they hold: an acknowledgement, a short
 * request, one MSS of Ethernet (1460), two, 4 KiB with a head, one MSS of jumbo
 * frames, and so on, each with the kernel's 8 bytes and the event a multiple of
 * a cache line. What a record has too much is not touched. The longest holds
 * any packet but BIG TCP's whole: BenchmarkLive has 64 KiB in pieces of
 * 16 KiB beside it.
 */
#define CLASS(bytes) (sizeof(struct tap_event) + (bytes))
#define SHORT	     1512
#define LONG	     16296
#define LONGEST	     65576

/* Constants of one tap; each attachment loads the program with its own. */
volatile const __u16 tap_id = 0;
volatile const __u16 domain = 0;
volatile const __u8 direction = TAP_REQUESTS | TAP_RESPONSES;
volatile const __u8 link_header = 14; /* bytes before the IP header or the VLAN tags */
/* Constants of all taps. */
volatile const __u32 rings_count = 1;
volatile const __u32 rings_mark = 0; /* bytes in a ring at which its reader is woken */
volatile const __u32 hash_seed = 0;
volatile const __u32 longest = LONGEST; /* payload in one record, bytes; see copy() */
volatile const __u32 worth = 4096; /* so many bytes of a segment are worth leaving out */

struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
};

/* User space sets the number and size of the rings. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct ring);
} rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* one for each ring */
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct tap_control);
} controls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct tap_settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tap_cpu);
} cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct tap_endpoint);
	__type(value, __u8);
} own_replays SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TAP_SKIPS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct tap_skip);
} skips SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TAP_FORECASTS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct tap_forecast);
} forecasts SEC(".maps");

/* Puts types into the BTF that nothing there refers to; layout_test.go looks for them. */
const struct {
	struct tap_event event;
	enum tap_result result;
} layout = {};

/* Not a result: the packet is a segment of TCP and its event is filled. */
#define PARSED TAP_RESULTS

#define MAX_TAGS       3 /* VLAN tags in the bytes */
#define MAX_EXTENSIONS 8 /* IPv6 extension headers */
#define MAX_PACKET     524288 /* GSO_MAX_SIZE, include/linux/netdevice.h */

#define SYN	    0x02
#define FIN_SYN_RST 0x07
#define URG	    0x20

struct ipv4 {
	__u8 version_ihl;
	__u8 tos;
	__u16 length;
	__u16 id;
	__u16 fragment;
	__u8 ttl;
	__u8 protocol;
	__u16 check;
	__u32 src;
	__u32 dst;
};

struct ipv6 {
	__u32 version;
	__u16 length;
	__u8 next;
	__u8 hops;
	__u32 src[4];
	__u32 dst[4];
};

struct ipv6_extension {
	__u8 next;
	__u8 length;
	__u16 fragment;
	__u32 rest;
};

struct tcp {
	__u16 src_port;
	__u16 dst_port;
	__u32 seq;
	__u32 ack;
	__u8 offset;
	__u8 flags;
	__u16 window;
	__u16 check;
	__u16 urgent;
};

/* What is known of a packet beside its event. */
struct segment {
	struct tap_event ev;
	__u32 payload; /* offset of the payload in the skb */
};

/* Copies *to from off by the helper. Not 0: it is not there. */
#define load(skb, off, to) bpf_skb_load_bytes((skb), (off), (to), sizeof(*(to)))

/*
 * Moves the packet pointer p by n. Without CAP_PERFMON the verifier takes only a
 * constant in the instruction itself (sanitize_ptr_alu in kernel/bpf/verifier.c);
 * the compiler would make one addition of several.
 */
#define advance(p, n) asm volatile("%0 += %1" : "+r"(p) : "i"(n))

/*
 * The same as load, off being a constant: what is in the skb's linear part is
 * read directly, whatever lies in its fragments takes the helper.
 */
#define peek(skb, off, to)                                                                         \
	({                                                                                         \
		typeof(to) p_ = (void *)(long)(skb)->data;                                         \
		long err_ = 0;                                                                     \
		advance(p_, off);                                                                  \
		if (likely((void *)(p_ + 1) <= (void *)(long)(skb)->data_end))                     \
			*(to) = *p_;                                                               \
		else                                                                               \
			err_ = load(skb, off, to);                                                 \
		err_;                                                                              \
	})

/* Where headers mostly begin: behind an Ethernet header, and behind none. */
#define peek_ip(skb, off, to)                                                                      \
	((off) == 14  ? peek((skb), 14, (to))                                                      \
	 : (off) == 0 ? peek((skb), 0, (to))                                                       \
		      : load((skb), (off), (to)))

/* The same behind an IPv4 header without options, and an IPv6 header without extensions. */
#define peek_tcp(skb, off, to)                                                                     \
	((off) == 34   ? peek((skb), 34, (to))                                                     \
	 : (off) == 54 ? peek((skb), 54, (to))                                                     \
	 : (off) == 20 ? peek((skb), 20, (to))                                                     \
	 : (off) == 40 ? peek((skb), 40, (to))                                                     \
		       : load((skb), (off), (to)))

/* The offsets of an IP datagram in the skb. */
struct span {
	__u32 off; /* of the header that comes next */
	__u32 end; /* of the datagram */
};

static __always_inline int is_tag(__u16 type)
{
	return type == bpf_ntohs(ETH_P_8021Q) || type == bpf_ntohs(ETH_P_8021AD) ||
	       type == bpf_ntohs(ETH_P_QINQ1);
}

static __always_inline int parse_ipv4(struct __sk_buff *skb, struct segment *s, struct span *at)
{
	__u32 header, length, there;
	struct ipv4 ip;

	if (peek_ip(skb, at->off, &ip))
		return TAP_UNPARSABLE;
	header = (ip.version_ihl & 0x0f) * 4;
	if (ip.version_ihl >> 4 != 4 || header < sizeof(ip))
		return TAP_UNPARSABLE;
	if (ip.protocol != IPPROTO_TCP)
		return TAP_NOT_TCP;
	if (ip.fragment & bpf_ntohs(0x3fff)) /* more fragments, or an offset */
		return TAP_FRAGMENT;
	there = skb->len - at->off;
	length = bpf_ntohs(ip.length);
	/* 0 is a packet longer than the field can say (BIG TCP). Ethernet pads short frames. */
	if (length == 0 || length > there)
		length = there;
	if (length < header)
		return TAP_UNPARSABLE;
	*(__u64 *)&s->ev.src[0] = 0;
	*(__u32 *)&s->ev.src[8] = 0xffff0000;
	*(__u32 *)&s->ev.src[12] = ip.src;
	*(__u64 *)&s->ev.dst[0] = 0;
	*(__u32 *)&s->ev.dst[8] = 0xffff0000;
	*(__u32 *)&s->ev.dst[12] = ip.dst;
	at->end = at->off + length;
	at->off += header;
	return PARSED;
}

static __always_inline int is_extension(__u32 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_FRAGMENT ||
	       next == IPPROTO_AH || next == IPPROTO_DSTOPTS;
}

static __always_inline int parse_ipv6(struct __sk_buff *skb, struct segment *s, struct span *at)
{
	__u32 length, there, next, i;
	struct ipv6_extension ext;
	struct ipv6 ip;

	if (peek_ip(skb, at->off, &ip))
		return TAP_UNPARSABLE;
	if ((ip.version & 0xf0) != 0x60)
		return TAP_UNPARSABLE;
	there = skb->len - at->off - sizeof(ip);
	length = bpf_ntohs(ip.length);
	if (length == 0 || length > there)
		length = there;
	at->off += sizeof(ip);
	at->end = at->off + length;
	__builtin_memcpy(s->ev.src, ip.src, sizeof(ip.src));
	__builtin_memcpy(s->ev.dst, ip.dst, sizeof(ip.dst));
	next = ip.next;
	forget(skb, at->end);
	for (i = 0;; i++) {
		if (next == IPPROTO_TCP)
			return at->off <= at->end ? PARSED : TAP_UNPARSABLE;
		if (!is_extension(next))
			return TAP_NOT_TCP;
		if (i == MAX_EXTENSIONS)
			return TAP_UNPARSABLE;
		forget(skb, at->off);
		forget(skb, next);
		if (at->off + sizeof(ext) > at->end ||
		    load(skb, at->off, &ext))
			return TAP_UNPARSABLE;
		length = (ext.length + 1) * 8; /* RFC 8200 section 4 */
		if (next == IPPROTO_AH)
			length = (ext.length + 2) * 4; /* RFC 4302 section 2.2 */
		if (next == IPPROTO_FRAGMENT) {
			/* An atomic fragment (RFC 6946) is whole. */
			if (ext.fragment & bpf_ntohs(0xfff9))
				return ext.next == IPPROTO_TCP || is_extension(ext.next)
					       ? TAP_FRAGMENT
					       : TAP_NOT_TCP;
			length = sizeof(ext);
		}
		at->off += length;
		next = ext.next;
	}
}

static __always_inline int parse_tcp(struct __sk_buff *skb, struct segment *s, struct span *at)
{
	__u32 header, payload, total;
	struct tcp tcp;

	if (at->off + sizeof(tcp) > at->end || peek_tcp(skb, at->off, &tcp))
		return TAP_UNPARSABLE;
	header = (tcp.offset >> 4) * 4;
	if (header < sizeof(tcp) || at->off + header > at->end)
		return TAP_UNPARSABLE;
	payload = at->off + header;
	total = at->end - payload;
	forget(skb, payload);
	forget(skb, total);
	s->payload = payload;
	s->ev.total = total;
	s->ev.src_port = bpf_ntohs(tcp.src_port);
	s->ev.dst_port = bpf_ntohs(tcp.dst_port);
	s->ev.seq = bpf_ntohl(tcp.seq);
	s->ev.ack = bpf_ntohl(tcp.ack);
	s->ev.flags = tcp.flags;
	return PARSED;
}

/* Fills the event but for what the copy knows; a result, or PARSED. */
static __always_inline int parse(struct __sk_buff *skb, struct segment *s)
{
	struct span at = { .off = link_header };
	__u32 tags = 0;
	__u16 type;
	int result;

	if (!at.off) {
		type = skb->protocol;
	} else if (peek(skb, 12, &type)) {
		return TAP_UNPARSABLE;
	} else {
		while (unlikely(is_tag(type))) {
			if (tags == MAX_TAGS || load(skb, at.off + 2, &type))
				return TAP_UNPARSABLE;
			at.off += 4;
			tags++;
		}
	}
	s->ev.vlan = tags;
	forget(skb, at.off);
	at.off &= 31;
	if (likely(type == bpf_ntohs(ETH_P_IP)))
		result = parse_ipv4(skb, s, &at);
	else if (type == bpf_ntohs(ETH_P_IPV6))
		result = parse_ipv6(skb, s, &at);
	else
		return TAP_NOT_TCP;
	if (result != PARSED)
		return result;
	forget(skb, at.off);
	forget(skb, at.end);
	at.off &= 0x7fff; /* 8 extension headers of up to 2048 bytes */
	return parse_tcp(skb, s, &at);
}

static __always_inline int has_port(const __u64 *ports, __u32 port)
{
	__u32 word = port >> 6;

	/* Loads that swap bytes have no bound for older verifiers. */
	opaque(word);
	word &= 1023;
	return ports[word] >> (port & 63) & 1;
}

/* The same for both directions of a flow. */
static __always_inline __u32 flow_hash(const struct tap_event *ev)
{
	const __u32 *a = (const __u32 *)ev->src, *b = (const __u32 *)ev->dst;
	__u32 h = hash_seed;

	h ^= (a[0] ^ b[0]) * 0x9e3779b1;
	h = (h << 13 | h >> 19) ^ (a[1] ^ b[1]) * 0x85ebca77;
	h = (h << 13 | h >> 19) ^ (a[2] ^ b[2]) * 0xc2b2ae3d;
	h = (h << 13 | h >> 19) ^ (a[3] ^ b[3]) * 0x27d4eb2f;
	h = (h << 13 | h >> 19) ^ (__u32)(ev->src_port ^ ev->dst_port) * 0x165667b1;
	/* The finaliser of MurmurHash3: each bit depends on each. */
	h ^= h >> 16;
	h *= 0x85ebca6b;
	h ^= h >> 13;
	h *= 0xc2b2ae35;
	h ^= h >> 16;
	return h;
}

static __always_inline int is_own_replay(const __u8 *addr, __u16 port)
{
	struct tap_endpoint key = {};

	__builtin_memcpy(key.addr, addr, sizeof(key.addr));
	key.port = port;
	/* 127.0.0.1 and ::1 are somebody else's in another namespace. */
	if (domain) {
		const __u32 *a = (const __u32 *)key.addr;

		if (!a[0] && !a[1] &&
		    ((a[2] == 0xffff0000 && key.addr[12] == 127) || (!a[2] && a[3] == 0x01000000)))
			return 0;
	}
	return bpf_map_lookup_elem(&own_replays, &key) != 0;
}

/* Whether the slot of a map is of the event's stream. */
#define same_stream(slot, ev)                                                                      \
	({                                                                                         \
		const __u64 *a_ = (const __u64 *)(slot)->src, *b_ = (const __u64 *)(slot)->dst;    \
		const __u64 *src_ = (const __u64 *)(ev)->src, *dst_ = (const __u64 *)(ev)->dst;    \
		(slot)->src_port == (ev)->src_port && (slot)->dst_port == (ev)->dst_port &&        \
			(slot)->domain == domain && a_[1] == src_[1] && b_[1] == dst_[1] &&        \
			a_[0] == src_[0] && b_[0] == dst_[0];                                      \
	})

/* The place of a stream in maps that have one for each hash; count is a power of two. */
static __always_inline __u32 slot_of(const struct tap_event *ev, __u32 hash, __u32 count)
{
	return (hash << 1 | (ev->src_port > ev->dst_port)) & (count - 1);
}

/*
 * Whether nobody wants the payload of a segment. Of a range that is so as long as
 * its segments come in order, lie wholly in it, acknowledge what was said of them,
 * and have no flag that means anything: the first other one ends the skip, and what
 * follows is copied as if nothing had been said. So user space, which knows what was
 * skipped, finds nothing missing that has not passed, and a connection that came
 * after the one that was meant keeps its bytes. Two CPUs that see segments of one
 * stream at the same time may end it too early or note too little, which is harmless.
 */
static __always_inline int not_wanted(const struct tap_event *ev, __u32 hash)
{
	__u32 index = slot_of(ev, hash, TAP_SKIPS);
	__u64 run, turn, first, next, off, end;
	struct tap_skip *skip;
	__u32 state;

	skip = bpf_map_lookup_elem(&skips, &index);
	if (!skip)
		return 0;
	state = READ_ONCE(skip->state);
	if (likely(!state) || !same_stream(skip, ev))
		return 0;
	run = READ_ONCE(skip->run);
	if (run & TAP_RUN_OVER || run >> TAP_RUN_TURN != state >> TAP_SKIP_TURN)
		return 0;
	turn = run >> TAP_RUN_TURN << TAP_RUN_TURN;
	if (ev->flags & SYN) /* another connection */
		goto over;
	if ((state & 0xff) == TAP_SKIP_REST) {
		if (!ev->total || ev->flags & FIN_SYN_RST)
			return 0;
		end = (__u32)(ev->seq + ev->total);
		WRITE_ONCE(skip->run, turn | TAP_RUN_BEGUN | end);
		return 1;
	}
	if (ev->flags & (FIN_SYN_RST | URG))
		goto over;
	if (!ev->total)
		return 0;
	if (ev->ack != skip->ack)
		goto over;
	off = (__u32)(ev->seq - skip->from);
	if ((__s32)off < 0) /* older */
		return 0;
	end = off + ev->total;
	if (end > skip->len)
		goto over;
	first = run >> TAP_RUN_BITS & ((1U << TAP_RUN_BITS) - 1);
	next = run & ((1U << TAP_RUN_BITS) - 1);
	if (!(run & TAP_RUN_BEGUN)) {
		first = off;
		next = end;
	} else if (off < first) {
		return 0;
	} else if (off > next) {
		goto over;
	} else if (end > next) {
		next = end;
	}
	WRITE_ONCE(skip->run, turn | TAP_RUN_BEGUN | first << TAP_RUN_BITS | next);
	return 1;
over:
	WRITE_ONCE(skip->run, run | TAP_RUN_OVER);
	return 0;
}

/*
 * The length that a head says whose digits are at off, with what it must have before
 * them. Below 0: it is not as said.
 */
static __always_inline __s64 body_length(struct __sk_buff *skb, const struct tap_forecast *f,
					 __u32 payload, __u32 digits, __u32 head)
{
	struct {
		__u64 before[2];
		__u8 digits[8];
	} at;
	__u64 first[2], length = 0;
	__u32 end, i;

	if (load(skb, payload, &first) || first[0] != *(const __u64 *)&f->first[0] ||
	    first[1] != *(const __u64 *)&f->first[8])
		return -1;
	if (load(skb, payload + head - 4, &end) || end != 0x0a0d0a0d) /* an empty line */
		return -1;
	if (load(skb, payload + digits - 16, &at) ||
	    at.before[0] != *(const __u64 *)&f->before[0] ||
	    at.before[1] != *(const __u64 *)&f->before[8])
		return -1;
#pragma unroll
	for (i = 0; i < 8; i++) {
		__u32 c = at.digits[i];

		if (c == '\r')
			break;
		c -= '0';
		if (c > 9)
			return -1;
		length = length * 10 + c;
		forget(skb, length);
	}
	return i == 0 || i == 8 ? -1 : (__s64)length;
}

/*
 * How many bytes of a segment are to be copied: all, the head of an answer whose body
 * nobody wants, or none of a segment that lies wholly in such a body. Two CPUs that see
 * segments of one stream at the same time may make it copy more.
 */
static __always_inline __u64 wanted_bytes(struct __sk_buff *skb, const struct segment *s,
					  __u32 hash)
{
	const struct tap_event *ev = &s->ev;
	__u32 index = slot_of(ev, hash, TAP_FORECASTS);
	__u32 state, start, step, head, digits, before, nth;
	__u64 total = ev->total, unwanted;
	struct tap_forecast *f;
	__s64 length;

	f = bpf_map_lookup_elem(&forecasts, &index);
	if (!f)
		return total;
	state = READ_ONCE(f->state);
	if (likely(!state) || state == TAP_FORECAST_BUSY || !total || !same_stream(f, ev))
		return total;
	if (f->of != f->owner || ev->flags & (FIN_SYN_RST | URG)) {
		f->of = f->owner;
		f->ack = ev->ack;
		f->left = 0;
		return total;
	}
	before = f->ack;
	if (ev->ack == before) {
		if (f->left < total || f->next != ev->seq) {
			f->left = 0;
			return total;
		}
		f->next += total;
		f->left -= total;
		return total >= worth ? 0 : total;
	}
	f->left = 0;
	if ((__s32)(ev->ack - before) < 0) /* older */
		return total;
	f->ack = ev->ack;
	start = f->start;
	step = f->step;
	unwanted = f->unwanted;
	head = f->head;
	digits = f->digits;
	if (READ_ONCE(f->state) != state)
		return total;
	nth = before - start;
	if (nth && step) {
		nth /= step;
		if (nth * step != before - start)
			return total;
	}
	if (nth > 63 || !(unwanted >> (nth & 63) & 1))
		return total;
	if (head < 32 || head > TAP_FORECAST_HEAD || digits < 16 || digits >= head || total < head)
		return total;
	length = body_length(skb, f, s->payload, digits, head);
	if (length < 0)
		return total;
	length += head;
	if ((__u64)length < total) /* another answer stands behind it */
		return total;
	f->next = ev->seq + total;
	f->left = length - total;
	return total - head >= worth ? head : total;
}

/*
 * The valve: a budget of bytes per second over all CPUs, as a clock that each
 * copied byte moves on by its cost and that must not run ahead of the time.
 * CPUs take leases, so that they do not meet at one cache line for each packet.
 * It lets through at most rate * (time + burst), one lease and one packet for
 * each CPU.
 */
static __always_inline int over_budget(struct tap_settings *cfg, __u64 now, __u64 bytes)
{
	__u64 cost = cfg->budget_cost, spent;
	struct tap_cpu *cpu;
	__u32 zero = 0;

	if (!cost)
		return 0;
	cpu = bpf_map_lookup_elem(&cpus, &zero);
	if (!cpu)
		return 1;
	if (cpu->lease >= bytes) {
		cpu->lease -= bytes;
		return 0;
	}
	spent = READ_ONCE(cfg->budget_spent);
	if (spent > now)
		return 1;
	if (now - spent > cfg->budget_burst)
		WRITE_ONCE(cfg->budget_spent, now - cfg->budget_burst);
	bytes += cfg->budget_lease - cpu->lease;
	cpu->lease = cfg->budget_lease;
	atomic_add(&cfg->budget_spent, bytes * cost >> TAP_BUDGET_SHIFT);
	return 0;
}

/* Flags for the next submit. Waking for each record would cost more than copying it. */
static __always_inline __u64 wake(struct tap_control *ctl, void *ring)
{
	__u32 when = READ_ONCE(ctl->wake);

	if (when == TAP_WAKE_NEVER)
		return BPF_RB_NO_WAKEUP;
	if (when == TAP_WAKE_MARK && bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) < rings_mark)
		return BPF_RB_NO_WAKEUP;
	WRITE_ONCE(ctl->wake, TAP_WAKE_NEVER);
	return BPF_RB_FORCE_WAKEUP;
}

/*
 * Writes n bytes of payload from done on into e, which may be 0, and submits
 * it. may_be_empty says whether n may be 0.
 */
static __always_inline int fill(struct __sk_buff *skb, struct segment *s, struct tap_control *ctl,
				void *ring, struct tap_event *e, __u32 done, __u32 n,
				const int may_be_empty)
{
	__u32 one = 1;

	if (!e)
		return TAP_RING_FULL;
	/* A verifier learns from n >= 1 that n is not 0, but not from n != 0. */
	opaque(one);
	if ((!may_be_empty || n >= one) &&
	    bpf_skb_load_bytes(skb, s->payload + done, e + 1, n)) {
		bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);
		return TAP_COPY_FAILED;
	}
	e->time = s->ev.time;
	/* Read after the reservation, which is the record's place in the ring. */
	e->lost = READ_ONCE(ctl->lost);
	__builtin_memcpy(e->src, s->ev.src,
			 __builtin_offsetof(struct tap_event, offset) -
				 __builtin_offsetof(struct tap_event, src));
	e->offset = done;
	e->len = n;
	__builtin_memcpy(&e->total, &s->ev.total,
			 sizeof(*e) - __builtin_offsetof(struct tap_event, total));
	bpf_ringbuf_submit(e, wake(ctl, ring));
	return TAP_CAPTURED;
}

/* Copies the payload's first total bytes into the ring, in as many pieces as it takes. */
static __always_inline int copy(struct __sk_buff *skb, struct segment *s, struct tap_control *ctl,
				void *ring, __u64 total)
{
	__u64 done = 0, n, result;
	struct tap_event *e;

	/* longest is in read-only memory: the verifier takes its value for the constant it needs. */
	while (done < MAX_PACKET && total - done > longest) {
		e = bpf_ringbuf_reserve(ring, CLASS(longest), 0);
		result = fill(skb, s, ctl, ring, e, done, longest, 0);
		if (result != TAP_CAPTURED)
			return result;
		done += longest;
	}
	forget(skb, done);
	n = total - done;
	forget(skb, n);
	if (n <= 40)
		e = bpf_ringbuf_reserve(ring, CLASS(40), 0);
	else if (n <= 424)
		e = bpf_ringbuf_reserve(ring, CLASS(424), 0);
	else if (n <= SHORT)
		e = bpf_ringbuf_reserve(ring, CLASS(SHORT), 0);
	else if (n <= 2984)
		e = bpf_ringbuf_reserve(ring, CLASS(2984), 0);
	else if (n <= 4520)
		e = bpf_ringbuf_reserve(ring, CLASS(4520), 0);
	else if (n <= 9128)
		e = bpf_ringbuf_reserve(ring, CLASS(9128), 0);
	else if (n <= LONG)
		e = bpf_ringbuf_reserve(ring, CLASS(LONG), 0);
	else if (n <= 32680)
		e = bpf_ringbuf_reserve(ring, CLASS(32680), 0);
	else if (n <= LONGEST)
		e = bpf_ringbuf_reserve(ring, CLASS(LONGEST), 0);
	else
		return TAP_COPY_FAILED; /* longer than any packet is */
	return fill(skb, s, ctl, ring, e, done, n, 1);
}

/*
 * The filter, which every packet of the interface pays, for packets as nearly
 * all are: headers in the linear part, no tags in the bytes, no IP options, no
 * extension headers. It lets nothing pass that parse() and take() would count
 * in another way; PARSED: they are to look. It keeps all in registers: without
 * CAP_PERFMON each first store into a slot of the stack costs a barrier
 * (check_stack_write_fixed_off in kernel/bpf/verifier.c).
 */
static __always_inline int filter(struct __sk_buff *skb, const __u64 *ports)
{
	const void *p = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 there = skb->len, length, header, type = skb->protocol;
	const struct ipv4 *ip4;
	const struct ipv6 *ip6;
	const struct tcp *tcp;

	if (link_header) {
		advance(p, 14);
		there -= 14;
	}
	if (unlikely(p + sizeof(*ip4) + sizeof(*tcp) > end))
		return PARSED;
	if (link_header)
		type = *(const __u16 *)(p - 2);
	if (likely(type == bpf_ntohs(ETH_P_IP))) {
		ip4 = p;
		if (ip4->version_ihl != 0x45)
			return PARSED;
		if (ip4->protocol != IPPROTO_TCP)
			return TAP_NOT_TCP;
		if (ip4->fragment & bpf_ntohs(0x3fff))
			return PARSED;
		length = bpf_ntohs(ip4->length);
		header = sizeof(*ip4);
		tcp = p + sizeof(*ip4);
	} else if (type == bpf_ntohs(ETH_P_IPV6)) {
		if (p + sizeof(*ip6) + sizeof(*tcp) > end)
			return PARSED;
		ip6 = p;
		if ((ip6->version & 0xf0) != 0x60 || ip6->next != IPPROTO_TCP)
			return PARSED;
		length = bpf_ntohs(ip6->length) + sizeof(*ip6);
		header = sizeof(*ip6);
		tcp = p + sizeof(*ip6);
	} else {
		return PARSED;
	}
	header += (tcp->offset >> 4) * 4;
	if (unlikely(length > there || length < header || tcp->offset >> 4 < 5))
		return PARSED;
	if (unlikely(has_port(ports, bpf_ntohs(tcp->dst_port)) |
		     has_port(ports, bpf_ntohs(tcp->src_port))))
		return PARSED;
	return TAP_OTHER_PORT;
}

/* What becomes of a segment of TCP. */
static __always_inline int take(struct __sk_buff *skb, struct segment *s, struct tap_settings *cfg)
{
	__u64 now, sides, wanted, result, hash, bytes;
	struct tap_control *ctl;
	__u32 shard;
	void *ring;

	sides = has_port(cfg->ports, s->ev.dst_port) * TAP_SIDE_TO_SERVER |
		has_port(cfg->ports, s->ev.src_port) * TAP_SIDE_TO_CLIENT;
	if (likely(!sides))
		return TAP_OTHER_PORT;
	if (!(direction & sides))
		return TAP_OTHER_DIRECTION;

	/* Selected. From here on what is not copied, but should be, counts as lost. */
	hash = flow_hash(&s->ev);
	shard = hash * rings_count >> 32;
	ctl = bpf_map_lookup_elem(&controls, &shard);
	if (!ctl)
		return TAP_NO_READER;
	wanted = s->ev.total || s->ev.flags & FIN_SYN_RST;
	now = bpf_ktime_get_ns();
	if (!ctl->beat || (__s64)(now - ctl->beat) > TAP_BEAT_MAX_NS) {
		result = TAP_NO_READER;
		goto lost;
	}
	if ((has_port(cfg->own_ports, s->ev.dst_port) &&
	     is_own_replay(s->ev.dst, s->ev.dst_port)) ||
	    (has_port(cfg->own_ports, s->ev.src_port) && is_own_replay(s->ev.src, s->ev.src_port)))
		return TAP_OWN_REPLAY;
	if (!wanted && !READ_ONCE(ctl->hole_open))
		return TAP_NO_PAYLOAD;
	if (not_wanted(&s->ev, hash))
		return TAP_NOT_WANTED;
	bytes = wanted_bytes(skb, s, hash);
	forget(skb, bytes);
	if (over_budget(cfg, now, sizeof(struct tap_event) + bytes)) {
		result = TAP_OVER_BUDGET;
		goto lost;
	}
	ring = bpf_map_lookup_elem(&rings, &shard);
	if (!ring) {
		result = TAP_NO_READER;
		goto lost;
	}
	s->ev.time = now;
	s->ev.tap = tap_id;
	s->ev.domain = domain;
	s->ev.side = sides == (TAP_SIDE_TO_SERVER | TAP_SIDE_TO_CLIENT) ? TAP_SIDE_UNKNOWN : sides;
	if (skb->vlan_present)
		s->ev.vlan |= TAP_VLAN_METADATA;
	s->ev.rest = bytes != s->ev.total;
	forget(skb, wanted);
	forget(skb, s->ev.vlan);
	forget(skb, s->ev.rest);
	result = copy(skb, s, ctl, ring, bytes);
	if (likely(result == TAP_CAPTURED))
		return s->ev.rest ? TAP_NOT_WANTED : result;
lost:
	if (wanted)
		atomic_add(&ctl->lost, 1);
	return result;
}

/* All of the tap, apart from the verdict. */
static __noinline void work(struct __sk_buff *skb)
{
	struct tap_settings *cfg;
	struct tap_cpu *cpu;
	__u32 zero = 0, result;
	struct segment s;
	__u64 index;

	keep_in_memory(&s);
	cfg = bpf_map_lookup_elem(&settings, &zero);
	if (!cfg)
		return;
	result = filter(skb, cfg->ports);
	if (unlikely(result == PARSED)) {
		/* Where a processor guesses wrong it may read what was not yet written. */
		__builtin_memset(&s, 0, sizeof(s));
		result = parse(skb, &s);
		if (result == PARSED)
			result = take(skb, &s, cfg);
	}
	/* For all paths alike: the verifier masks the index by one limit (sanitize_ptr_alu). */
	forget(skb, result);
	cpu = bpf_map_lookup_elem(&cpus, &zero);
	index = result; /* in 64 bits: older verifiers take no bound from a comparison in 32 */
	opaque(index);
	if (cpu && index < TAP_RESULTS)
		cpu->packets[index]++;
}

SEC("tc")
int shadowtap(struct __sk_buff *skb)
{
	work(skb);
	return TCX_NEXT;
}
