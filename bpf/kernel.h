/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The part of the kernel's user API that the tap needs, so that the object
 * depends on the compiler alone and not on the headers of the machine that
 * built it. Numbers: include/uapi/linux/bpf.h, if_ether.h, in.h.
 */
#ifndef SHADOWTAP_KERNEL_H
#define SHADOWTAP_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef int __s32;
typedef long long __s64;

/* The context of a TC program, up to the last field that is read. */
struct __sk_buff {
	__u32 len;
	__u32 pkt_type;
	__u32 mark;
	__u32 queue_mapping;
	__u32 protocol;
	__u32 vlan_present;
	__u32 vlan_tci;
	__u32 vlan_proto;
	__u32 priority;
	__u32 ingress_ifindex;
	__u32 ifindex;
	__u32 tc_index;
	__u32 cb[5];
	__u32 hash;
	__u32 tc_classid;
	__u32 data;
	__u32 data_end;
};

#define TCX_NEXT (-1) /* = TC_ACT_UNSPEC: go on as if this program were not here */

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_RINGBUF = 27,
};

#define BPF_F_NO_PREALLOC (1U << 0)
#define BPF_F_MMAPABLE	  (1U << 10)

#define BPF_RB_NO_WAKEUP    (1ULL << 0)
#define BPF_RB_FORCE_WAKEUP (1ULL << 1)
#define BPF_RB_AVAIL_DATA   0

/* Helpers, called by number. verdict_test.go holds the list of what may be here. */
static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static __u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static long (*const bpf_skb_load_bytes)(const void *skb, __u32 off, void *to,
					__u32 len) = (void *)26;
static void *(*const bpf_ringbuf_reserve)(void *ring, __u64 size, __u64 flags) = (void *)131;
static void (*const bpf_ringbuf_submit)(void *data, __u64 flags) = (void *)132;
static void (*const bpf_ringbuf_discard)(void *data, __u64 flags) = (void *)133;
static __u64 (*const bpf_ringbuf_query)(void *ring, __u64 flags) = (void *)134;

#define ETH_P_IP     0x0800
#define ETH_P_IPV6   0x86DD
#define ETH_P_8021Q  0x8100
#define ETH_P_8021AD 0x88A8
#define ETH_P_QINQ1  0x9100

#define IPPROTO_HOPOPTS	 0
#define IPPROTO_TCP	 6
#define IPPROTO_ROUTING	 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_AH	 51
#define IPPROTO_DSTOPTS	 60

#define SEC(name)	__attribute__((section(name), used))
#define __always_inline inline __attribute__((always_inline))
#define __noinline	__attribute__((noinline))
#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)

/* Map definitions as libbpf's BTF convention has them. */
#define __uint(name, val)  int(*name)[val]
#define __type(name, val)  typeof(val) *name
#define __array(name, val) typeof(val) *name[]

/* Only little-endian targets are built. */
#define bpf_ntohs(x) __builtin_bswap16(x)
#define bpf_ntohl(x) __builtin_bswap32(x)

#define READ_ONCE(x)	 (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

/* Without a result, because those that have one came with kernel 5.12. */
#define atomic_add(p, v) ((void)__sync_fetch_and_add((p), (v)))

/*
 * Makes the compiler forget what it knows about v. Without it clang drops a
 * bound that it can prove and the verifier cannot.
 */
#define opaque(v) asm volatile("" : "+r"(v))

/*
 * Makes the verifier forget what it knows about v. Where many paths meet, each
 * with a range of its own, it would otherwise walk all that follows once for
 * each of them.
 */
#define forget(skb, v)                                                                             \
	({                                                                                         \
		__u32 unknown_ = (skb)->len;                                                       \
		opaque(unknown_);                                                                  \
		(v) ^= unknown_;                                                                   \
		opaque(v);                                                                         \
		(v) ^= unknown_;                                                                   \
	})

/* Keeps what p points to in memory: taken apart into registers it is spilled piece by piece. */
#define keep_in_memory(p) asm volatile("" : : "r"(p) : "memory")

#endif
