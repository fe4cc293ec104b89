#include "textflag.h"

// func marks(b *[64]byte) (lf, colons uint64)
//
// AVX2: 32 bytes are compared in one instruction, and one more takes a bit of each.
TEXT ·marks(SB), NOSPLIT|NOFRAME, $0-24
	MOVQ b+0(FP), SI
	MOVL $0x0a3a, AX
	MOVQ AX, X3
	VPBROADCASTB X3, Y3 // colons
	SHRL $8, AX
	MOVQ AX, X2
	VPBROADCASTB X2, Y2 // line feeds
	VMOVDQU (SI), Y0
	VMOVDQU 32(SI), Y1
	VPCMPEQB Y0, Y2, Y4
	VPCMPEQB Y1, Y2, Y5
	VPCMPEQB Y0, Y3, Y6
	VPCMPEQB Y1, Y3, Y7
	VPMOVMSKB Y4, AX
	VPMOVMSKB Y5, BX
	VPMOVMSKB Y6, CX
	VPMOVMSKB Y7, DX
	VZEROUPPER
	SHLQ $32, BX
	SHLQ $32, DX
	ORQ BX, AX
	ORQ DX, CX
	MOVQ AX, lf+8(FP)
	MOVQ CX, colons+16(FP)
	RET
