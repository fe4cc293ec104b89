package bpf

// The object and its Go are committed, so that a build needs no clang. What
// is pinned, and why: clang-14, because each version makes another object;
// bpfel, because all we serve are little-endian; -mcpu=v3, because v4 needs
// kernel 6.6; no sharing of spill slots, because without CAP_PERFMON the verifier
// refuses half a value in a slot that held a pointer ("attempt to corrupt spilled
// pointer"); the prefix map, so that no path of the machine gets in. The
// program includes no header of the system.

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -go-package bpf -no-global-types -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -mllvm -no-stack-slot-sharing -fdebug-prefix-map=..=. -fdebug-compilation-dir=." tap tap.bpf.c
